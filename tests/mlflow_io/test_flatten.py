from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fedprofile.mlflow_io import flatten

LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=600) | st.lists(st.integers(), max_size=3)
KEYS = st.text(max_size=300)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(KEYS, LEAVES | st.dictionaries(KEYS, LEAVES, max_size=3), max_size=4))
def test_params_are_always_within_what_mlflow_takes(config: dict[str, Any]) -> None:
    flat = flatten.params(config)
    assert len(flat) <= flatten.MAX_PARAMS
    for key, value in flat.items():
        assert re.fullmatch(r"[/\w.\- :]*", key)
        assert len(key) <= flatten.MAX_KEY
        assert isinstance(value, str)
        assert len(value) <= flatten.MAX_VALUE


def test_params_are_dotted_and_read_like_the_config() -> None:
    config = {"data": {"name": "nhanes", "fold": 0}, "rings": [16, 32], "secure": {}, "dp": None, "on": True}
    assert flatten.params(config) == {
        "data.name": "nhanes",
        "data.fold": "0",
        "rings": "[16, 32]",
        "secure": "{}",
        "dp": "null",
        "on": "true",
    }


def test_a_long_config_is_cut_and_never_refused() -> None:
    flat = flatten.params({"text": "x" * 9000, **{f"k{i}": i for i in range(2000)}})
    assert len(flat) == flatten.MAX_PARAMS
    assert flat["text"].endswith("x…")


REPORT: dict[str, Any] = {
    "tasks": {
        "tier": {
            "classes": 4,
            "models": {
                "federated": {"auc": 0.96, "qwk": None, "intervals": {"auc": [0.95, 0.97]}, "chosen": "gbdt"},
                "pooled_gbdt": None,
            },
            "gap_closed": 0.91,
            "gain_by_partner": {"tax": {"auc_drop": 0.02, "low": 0.01, "high": 0.03}},
        },
        "ira": {"models": {"federated": {"auc": 0.77}}, "gap_closed": None, "gain_by_partner": None},
    },
    "privacy": {"label_eps": {"tier": 2.0, "ira": None}, "label_eps_total": 4, "openings": [{"count": 3}]},
    "wire": {"up": {"update": {"messages": 3, "bytes": 900}}},
    "seconds": {"rounds": 1.5, "odd": float("nan")},
}


def test_report_metrics() -> None:
    assert flatten.report_metrics(REPORT) == {
        "tier.federated.auc": 0.96,
        "tier.gap_closed": 0.91,
        "tier.gain_by_partner.tax": 0.02,
        "ira.federated.auc": 0.77,
        "privacy.label_eps.tier": 2.0,
        "privacy.label_eps_total": 4.0,
        "wire.up.update.messages": 3.0,
        "wire.up.update.bytes": 900.0,
        "seconds.rounds": 1.5,
    }
