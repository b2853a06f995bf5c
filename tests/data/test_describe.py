"""The description: counts and rates that can be checked by hand, and nothing else."""

import json

import numpy as np

from fedprofile.data.describe import describe
from fedprofile.data.federation import make_federation
from fedprofile.types import Labels, Table, Task


def test_counts_and_rates() -> None:
    ids = np.array(["A", "B", "C", "D"])
    bank = Table(
        ids,
        {"x": np.array([1, 987654321, np.nan, np.nan]), "k": np.array(["SECRET-123", None, "b", "b"], dtype=object)},
        frozenset({"k"}),
    )
    shop = Table(np.array(["D", "A", "Z"]), {"y": np.array([1.0, 2, 3])})
    tax = Table(np.array(["A"]), {"z": np.array([1.0])})
    tasks = (Task("tier", "ordinal", 3), Task("need", "binary", 2))
    labels = Labels(ids, {"tier": np.array([0, 0, 2, 1]), "need": np.array([1, -1, -1, 0])})
    f = make_federation("f", "id", "bank", tasks, {"shop": shop, "bank": bank, "tax": tax}, labels)
    report = describe(f)
    assert report["parties"]["bank"] == {
        "rows": 4,
        "numeric": 1,
        "categorical": 1,
        "missing": 0.375,
        "columns": {
            "x": {"kind": "numeric", "missing": 0.5},
            "k": {"kind": "categorical", "missing": 0.25, "levels": 2},
        },
    }
    assert report["overlap"] == {"shop": {"customers": 2, "share": 0.5}, "tax": {"customers": 1, "share": 0.25}}
    assert report["views"] == {"0": 2, "1": 1, "2": 1}
    assert report["tasks"]["tier"] == {
        "kind": "ordinal",
        "classes": 3,
        "known": 4,
        "missing": 0,
        "rates": [0.5, 0.25, 0.25],
    }
    assert report["tasks"]["need"] == {"kind": "binary", "classes": 2, "known": 2, "missing": 2, "rates": [0.5, 0.5]}
    assert not any(secret in json.dumps(report) for secret in ("SECRET-123", "987654321"))
