import copy
import json
from pathlib import Path

import pytest

_EXAMPLE = json.loads((Path(__file__).parent / "example_report.json").read_text(encoding="utf-8"))


@pytest.fixture
def report():
    """Everything computed; every number is invented."""
    return copy.deepcopy(_EXAMPLE)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """The example's plots, drawn once; read only."""
    from fedprofile.report.plots import write_plots

    return write_plots(_EXAMPLE, tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def bare():
    """Two parties, one task, baselines=none, no gap, labels released as they are, nothing masked, no rounds."""
    report = copy.deepcopy(_EXAMPLE)
    task = report["tasks"]["uninsured"]
    skipped = ("members_alone", "pooled_network", "pooled_gbdt")
    task["models"] |= dict.fromkeys(skipped)
    task["reasons"] = dict.fromkeys((*skipped, "gain_by_partner"), "baselines=none")
    task |= {
        "gap_closed": None,
        "gap_closed_reason": "baselines=none",
        "best_pooled": None,
        "federated_minus_members": None,
        "gain_by_partner": None,
        "reliability": {},
    }
    report["tasks"] = {"uninsured": task}
    report["data"]["tasks"] = {"uninsured": {"kind": "binary", "classes": 2}}
    report["data"]["parties"] = [party | {"quality": None} for party in report["data"]["parties"][:2]]
    report["run"] |= {"git_commit": None}
    del report["run"]["dir"], report["run"]["command"]
    report["modes"]["secure"] = "none"
    report["learning_curve"] = {"rounds": [], "loss": {}}
    report["privacy"] |= {"label_eps": {"uninsured": None}, "label_eps_total": None, "openings": []}
    report["warnings"] = []
    report["seconds"] = {}
    return report
