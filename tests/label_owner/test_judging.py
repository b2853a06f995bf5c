from types import SimpleNamespace

import numpy as np
import pytest

from fedprofile.label_owner.judging import NOISE, SKIPPED, judge_tasks
from fedprofile.simulation.baselines import Baselines
from fedprofile.types import Task

N = 600
TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
RNG = np.random.default_rng(0)
WHO = np.arange(N) % 5
LABELS = {t.name: RNG.integers(0, t.classes, N) for t in TASKS}
LABELS["tier"][::7] = -1


def model(skill):
    """Probabilities that know the label as well as ``skill`` says; the same noise whatever the skill."""
    noise = np.random.default_rng(1)
    found = {}
    for task in TASKS:
        p = noise.dirichlet(np.ones(task.classes), N)
        found[task.name] = p * (1 - skill) + skill * np.eye(task.classes)[LABELS[task.name]]
    return found


def fusion(federated, alone):
    data = SimpleNamespace(labels=LABELS, test=WHO == 4, valid=WHO == 3, train=WHO < 3)
    bank = SimpleNamespace(choice={"tier": "gbdt", "invest": "network"})
    return SimpleNamespace(data=data, bank=bank, federated=model(federated), bank_alone=model(alone))


def compared(network, gbdt, members=0.1):
    return Baselines(model(network), model(gbdt), model(members), {"tax": model(0.05)})


def judge(federated=0.2, alone=0.1, baselines=None):
    return judge_tasks(fusion(federated, alone), baselines, TASKS, 50, 0)


def test_with_baselines_everything_is_there_and_the_gap_is_a_share():
    for found in judge(baselines=compared(0.2, 0.3)).values():
        assert found["reasons"] == {}
        assert all(found["models"].values())
        auc = {m: v["auc"] for m, v in found["models"].items()}
        expected = (auc["federated"] - auc["bank_alone"]) / (auc["pooled_gbdt"] - auc["bank_alone"])
        assert found["gap_closed"] == pytest.approx(expected)
        assert found["gap_closed_reason"] is None
        assert found["best_pooled"] == "pooled_gbdt"
        assert found["gain_by_partner"]["tax"]["auc_drop"] > 0
        assert found["federated_minus_members"]["auc"]["difference"] > 0


def test_the_better_pooled_model_is_chosen_on_validation_and_never_on_test():
    honest = compared(0.3, 0.2)
    for task in TASKS:
        honest.pooled_gbdt[task.name][WHO == 4] = np.eye(task.classes)[LABELS[task.name][WHO == 4]]
    assert {t["best_pooled"] for t in judge(baselines=honest).values()} == {"pooled_network"}


def test_a_gap_within_the_noise_is_not_divided_by():
    for found in judge(baselines=compared(0.1, 0.1)).values():
        assert (found["gap_closed"], found["gap_closed_reason"]) == (None, NOISE)


def test_without_baselines_what_is_missing_says_why():
    for found in judge().values():
        assert (found["gap_closed"], found["gap_closed_reason"]) == (None, SKIPPED)
        missing = {m for m, v in found["models"].items() if v is None}
        assert missing == {"members_alone", "pooled_network", "pooled_gbdt"}
        assert found["reasons"] == dict.fromkeys([*missing, "gain_by_partner"], SKIPPED)
        assert found["best_pooled"] is found["gain_by_partner"] is found["federated_minus_members"] is None
        assert found["federated_minus_bank"]["auc"]["difference"] > 0
        assert set(found["reliability"]) == {"bank_alone", "federated"}


def test_only_test_customers_with_a_known_label_are_judged():
    found = judge()
    test = (WHO == 4) & (LABELS["tier"] >= 0)
    assert found["tier"]["test_customers"] == test.sum() < (WHO == 4).sum()
    assert np.sum(found["tier"]["confusion"]) == test.sum()
    changed = fusion(0.2, 0.1)
    for p in (*changed.federated.values(), *changed.bank_alone.values()):
        p[WHO != 4] = 1 / p.shape[1]
    assert judge_tasks(changed, None, TASKS, 50, 0)["tier"]["models"] == found["tier"]["models"]


def test_the_same_seed_gives_the_same_intervals_and_names_are_given_to_three_tiers():
    assert judge() == judge()
    assert len(judge()["tier"]["levels"]) == 3
    assert judge()["invest"]["levels"] is None
    assert judge()["tier"]["models"]["bank_alone"]["chosen"] == "gbdt"
