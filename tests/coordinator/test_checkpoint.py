import stat

import numpy as np
import pytest

from fedprofile.coordinator.checkpoint import Checkpoint, CheckpointStore
from fedprofile.errors import UsageError

FULL = Checkpoint(
    t=3, setups=2, released=True, spine_size=640, spine_hash="ab" * 32,
    shared={"trunk.z": np.arange(6, dtype=np.float32).reshape(2, 3), "trunk.a": np.array(1.5, np.float32)},
    encoders={"tax": {"encoder.z/w": np.ones((1, 2), np.float32), "encoder.a": np.zeros(2, np.float32)}},
    counts={"tax": {"z/income": np.arange(3.0), "a": np.ones(3)}},
    summaries=[{"t": 1.0, "loss.tier": 0.1 + 0.2}], openings=[{"kind": "update", "members": 3, "count": 2}],
    uploads={"update": (b"fps1a", b"fps1b"), "role/tax": (b"\0\1",)}, lost=2,
    suspended=tuple(bytes([i]) * (i + 1) for i in range(11)),
)  # fmt: skip


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return (value.dtype, value.shape, value.tolist()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("state", [FULL, Checkpoint(), Checkpoint(setups=1)], ids=["full", "empty", "begun"])
def test_a_checkpoint_survives_its_file_value_by_value(tmp_path, state):
    CheckpointStore(tmp_path).save(state)
    assert plain(vars(CheckpointStore(tmp_path).load())) == plain(vars(state))


def test_there_is_a_fresh_one_where_none_was_saved_and_the_last_one_counts(tmp_path):
    store = CheckpointStore(tmp_path)
    assert plain(vars(store.load())) == plain(vars(Checkpoint()))
    store.save(FULL)
    store.save(Checkpoint(t=4))
    assert store.load().t == 4
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_damaged_one_is_named_and_nobody_else_reads_it(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(FULL)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    whole = store.path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], whole.replace(b"state", b"stale")):
        store.path.write_bytes(damaged)
        with pytest.raises(UsageError, match="is damaged"):
            store.load()
