"""What validate accepts, and that it names what is wrong."""

import pytest

from fedprofile.report.schema import KEYS, validate

_FREE = {
    "tasks",
    "intervals",
    "reasons",
    "reliability",
    "gain_by_partner",
    "label_eps",
    "up",
    "down",
    "seconds",
    "loss",
}
_FREE |= {"federated_minus_bank", "federated_minus_members"}
_OPTIONAL = {"dir", "command", "chosen"}


def _places(value, path=()):
    """(path, holder, key) of everything below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _spelt(path):
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).lstrip(".")


def _holder(report, path):
    for key in path[:-1]:
        report = report[key]
    return report


def _refused(report):
    with pytest.raises(ValueError, match=r"^report\.json: ") as caught:
        validate(report)
    return str(caught.value)


def test_the_example_and_its_barest_form_are_valid(report, bare):
    validate(report)
    validate(bare)


def test_every_missing_key_is_named(report):
    seen = 0
    for path in list(_places(report)):
        parent = path[-2] if len(path) > 1 else ""
        if isinstance(path[-1], int) or path[-1] in _OPTIONAL or (parent in _FREE and not _is_task(path)):
            continue
        holder = _holder(report, path)
        kept = holder.pop(path[-1])
        assert f"{_spelt(path)} is missing" in _refused(report)
        holder[path[-1]] = kept
        seen += 1
    assert seen > 300


def _is_task(path):
    return len(path) > 2 and path[0] == "data" and path[-2] == "split"


def test_every_wrong_type_and_every_unknown_key_is_named(report):
    for path in list(_places(report)):
        holder = _holder(report, path)
        kept, holder[path[-1]] = holder[path[-1]], object()
        assert _spelt(path) + " is not" in _refused(report)
        holder[path[-1]] = kept
    report["tasks"]["tier"]["models"]["federated"]["acuracy"] = 0.5
    assert "tasks.tier.models.federated.acuracy is not a key" in _refused(report)


def _edit(path, value):
    def edit(report):
        keys = path.split("/")
        _holder(report, keys)[keys[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema_version", 2, "schema_version"),
        ("tasks/tier/models/federated/auc", float("nan"), "tasks.tier.models.federated.auc is not share"),
        ("tasks/tier/models/federated/log_loss", float("inf"), "log_loss is not number"),
        ("tasks/tier/models/federated", None, "tasks.tier.models.federated is not object"),
        ("tasks/tier/models/federated/intervals/auc", [0.8, 0.7], "intervals.auc has its low bound above"),
        ("tasks/tier/models/federated/intervals/auc", [0.8], "intervals.auc is not a metric with"),
        ("tasks/tier/models/pooled_gbdt", None, "tasks.tier.reasons.pooled_gbdt is missing"),
        ("tasks/tier/gain_by_partner", None, "tasks.tier.reasons.gain_by_partner is missing"),
        ("tasks/tier/gap_closed", None, "gap_closed_reason must say why"),
        ("tasks/tier/best_pooled", None, "best_pooled must name"),
        ("tasks/tier/federated_minus_bank", None, "federated_minus_bank must be null exactly where"),
        ("tasks/tier/confusion", [[909]], "confusion is not classes x classes"),
        ("tasks/tier/test_customers", 900, "confusion does not add up"),
        ("tasks/tier/levels", ["low"], "levels does not name every class"),
        ("tasks/tier/kind", "binary", "differs from tasks.tier"),
        ("learning_curve/rounds", [1], "learning_curve.loss.tier is not as long"),
        ("privacy/label_eps", {"tier": 2.0}, "privacy.label_eps does not have exactly the tasks"),
        ("seconds", {"total": 3.0}, "seconds.total"),
        ("run/seed", True, "run.seed is not integer"),
        ("data/digest", "no hash", "data.digest is not hex"),
    ],
)
def test_parts_that_contradict_each_other_are_named(report, path, value, named):
    _edit(path, value)(report)
    assert named in _refused(report)


def test_no_value_is_ever_told(report):
    report["run"]["config_sha256"] = "PRIVATE"
    assert "PRIVATE" not in _refused(report)


@pytest.mark.parametrize("value", [None, [], "text", {}])
def test_what_is_no_report_is_refused(value):
    _refused(value)


def test_every_line_of_the_table_says_a_path_a_type_and_a_meaning():
    lines = [line.split(maxsplit=2) for line in KEYS.strip().splitlines()]
    assert all(len(line) == 3 for line in lines)
    assert len({path for path, _, _ in lines}) == len(lines)
