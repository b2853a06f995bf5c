"""What the coordinator repeats of what a node says."""

from __future__ import annotations

import pytest

from fedprofile.errors import NodeFailed
from fedprofile.flower.exchange import Exchange


@pytest.mark.parametrize(
    ("reason", "told"),
    [("bundle_not_allowed", ": bundle_not_allowed"), ("config_not_allowed", ": config_not_allowed"), ("id 4711", "")],
)
def test_a_nodes_own_words_are_not_repeated(tmp_path, reason, told):
    exchange = Exchange(None, tmp_path, {"tax": 1}, away_s=1.0)
    with pytest.raises(NodeFailed) as failed:
        exchange._excuse("tax", 7, reason)
    assert failed.value.what == f"node 'tax' answered flower_error_7{told}"
