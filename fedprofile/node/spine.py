"""A node's spine as a file: in the run's state once the run has aligned, in the home before where it is simulated."""

from __future__ import annotations

import numpy as np

from fedprofile.node.home import Arrays, NodeHome
from fedprofile.secagg.codes import remote
from fedprofile.types import Spine

SPINE, SHARE = "spine.safetensors", "share"


def read_spine(home: NodeHome) -> Spine:
    """The alignment of the current run. Raises RemoteProtocolError("no_spine")."""
    data = home.read(SPINE)
    if data is None:
        raise remote("no_spine", "this node has not aligned in this run")
    return _decode(data)


def write_spine(home: NodeHome, spine: Spine) -> None:
    home.write(SPINE, _encode(spine))


def read_simulated_spine(home: NodeHome) -> Spine:
    """What the simulation built before the run. Raises RemoteProtocolError("no_spine")."""
    try:
        return _decode((home.path / SPINE).read_bytes())
    except FileNotFoundError:
        raise remote("no_spine", "nothing was simulated for this node") from None


def write_simulated_spine(home: NodeHome, spine: Spine) -> None:
    (home.path / SPINE).write_bytes(_encode(spine))


def _encode(spine: Spine) -> bytes:
    from safetensors.numpy import save

    arrays: Arrays = {"rows": spine.rows, "slots": spine.slots, "enough": spine.enough.astype(np.uint8)}
    arrays |= {"size": np.array([spine.size]), "hash": np.frombuffer(spine.hash, np.uint8)}
    return save(arrays)


def _decode(data: bytes) -> Spine:
    from safetensors.numpy import load

    held = load(data)
    size, enough = int(held["size"][0]), held["enough"].astype(np.bool_)
    return Spine(size, held["rows"], held["slots"], enough, held["hash"].tobytes())
