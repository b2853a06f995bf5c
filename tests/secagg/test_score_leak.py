"""What score sums give away, each statement beside a control that must succeed: nothing to the coordinator, and to
the label owner what the sum itself says.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fedprofile.secagg.encoding import quantise
from fedprofile.secagg.messages import MaskedSum, Upload
from fedprofile.types import Layout, Segment

CUSTOMERS, KNOWN = 4000, 500
LAYOUT = Layout((Segment("scores", (CUSTOMERS, 1), 16, 8.0, 1 / 16),))


class Scored:
    """One score round over synthetic customers: a private yes/no attribute moves the first partner's score by 3."""

    def __init__(self, federate, partners: int, profile: str = "strict") -> None:
        rng = np.random.default_rng(7)
        fed = federate(partners + 1, profile=profile).set_up()
        self.attribute = rng.random(CUSTOMERS) < 0.4
        self.scores = {p: rng.normal(0, 1, CUSTOMERS) for p in fed.names if p != "bank"}
        self.scores["tax1"] += np.where(self.attribute, 1.5, -1.5)
        # what the others say moves with the customer's wealth, not with the attribute
        for p in list(self.scores)[1:]:
            self.scores[p] += rng.normal(0, 2, CUSTOMERS)
        data = fed.server.round(fed.id("score"), fed.names, LAYOUT, b"")
        rand = fed.arguments("tax1")[4]
        uploads = {
            p: fed.upload(p, data, quantise({"scores": s.reshape(-1, 1)}, LAYOUT, rand)) for p, s in self.scores.items()
        }
        self.uploads = {p: _words(Upload.decode(u, fed.roster).y) for p, u in uploads.items()}
        masked = fed.server.masked_sum(fed.id("score"), uploads)
        self.coordinator = _words(MaskedSum.decode(masked, fed.roster).y)
        bank = fed.nodes["bank"]
        self.opened = bank.open_sum(masked, bank.verify_round(data))["scores"].ravel()

    def auc(self, view: np.ndarray) -> float:
        """How well somebody with KNOWN customers' attributes reads the others' from a view, 0.5 for not at all."""
        x = np.column_stack([view, np.abs(view)]) / (np.abs(view).max() or 1)
        model = LogisticRegression(C=100.0).fit(x[:KNOWN], self.attribute[:KNOWN])
        return float(roc_auc_score(self.attribute[KNOWN:], model.decision_function(x[KNOWN:])))


def _words(y) -> np.ndarray:
    return np.frombuffer(y, "<u2").astype(np.uint16)


def _chi2(words: np.ndarray) -> float:
    """Standard deviations from uniform of the upper bytes: 255 degrees of freedom."""
    counts = np.bincount(words >> 8, minlength=256)
    return float((np.sum((counts - len(words) / 256) ** 2 / (len(words) / 256)) - 255) / np.sqrt(2 * 255))


@pytest.fixture(scope="module")
def scored(federate):
    return {n: Scored(federate, n) for n in (2, 3, 6)}


def test_all_that_the_coordinator_can_add_up_is_uniform(federate, scored):
    views = [scored[3].coordinator, *scored[3].uploads.values()]
    names = list(scored[3].uploads)
    for a, b in pairwise(names):
        views += [scored[3].uploads[a] + scored[3].uploads[b], scored[3].uploads[a] - scored[3].uploads[b]]
    assert max(abs(_chi2(v)) for v in views) < 6
    # the control: the same statistic without masks
    bare = Scored(federate, 3, profile="none")
    assert min(_chi2(v) for v in [bare.coordinator, *bare.uploads.values()]) > 1000


def test_the_attribute_is_read_from_one_score_less_from_a_sum_and_not_by_the_coordinator(scored):
    """The leak that remains: the bank reads from an opened sum what its terms say, blurred by the other partners."""
    others = CUSTOMERS - KNOWN
    error = 4 * np.sqrt((others + 1) / (12 * 0.24 * others**2))  # of an AUC of 0.5, at 40 % positives
    for partners, s in scored.items():
        one, bank = s.auc(s.scores["tax1"]), s.auc(s.opened)
        signed = s.coordinator.astype(np.int16).astype(float)
        print(f"{partners} partners: one score {one:.3f}, opened sum {bank:.3f}, coordinator {s.auc(signed):.3f}")
        assert one > 0.95  # the control: the attack works where nothing is summed
        assert 0.5 + error < bank < one - 0.03
        assert abs(s.auc(signed) - 0.5) < error
    assert scored[6].auc(scored[6].opened) < scored[2].auc(scored[2].opened)


def test_the_opened_sum_says_no_more_than_the_sum_of_the_scores(scored):
    for s in scored.values():
        exact = np.sum([np.clip(v, -8, 8) for v in s.scores.values()], axis=0)
        assert np.abs(s.opened - exact).max() < len(s.scores) / 16
