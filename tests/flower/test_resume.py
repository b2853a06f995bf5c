"""Everything dies after any one reply has left its node: the next start ends in the same model and the same sums."""

from __future__ import annotations

import pytest
from safetensors.numpy import load_file

from fedprofile.flower import client_app, server_app
from fedprofile.flower.inprocess import run_in_process
from fedprofile.messages import Envelope

COUNT, NODES = 3, 5  # uploads of the bins' sum, nodes
DEATHS = {
    "keys half agreed": ("key-ad", 3),
    "keys agreed by some": ("ready", 2),
    "points half sent": ("points", 2),
    "spine made": ("spine", 1),
    "customers claimed by some": ("claims", 3),
    "views told": ("views", 1),
    "aligned by some": ("aligned", 2),
    "labels sealed": ("labels", 1),
    "bins with some": ("bins-stored", 1),
    "round 1 half sent": ("uploads", COUNT + 2),
    "gains half sent": ("uploads", COUNT + 2 * NODES + 2),
    "scores half sent": ("uploads", COUNT + 3 * NODES + 2),
    "scores sent": ("uploads", COUNT + 3 * NODES + 4),
    "scores opened": ("opened", 1),
    "all finished": ("finished", NODES),
}


class Death(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


def result(federated) -> dict[str, bytes]:
    arrays = load_file(federated.folder / "checkpoint.safetensors")
    found = {name: value.tobytes() for name, value in arrays.items()}
    for name in ("score_sum", "shared"):
        kept = load_file(federated.homes["bank"] / "run" / f"{name}.safetensors")
        found |= {f"bank/{n}": v.tobytes() for n, v in kept.items()}
    return found


def start(federated, tap=None) -> None:
    try:
        run_in_process(server_app.app, client_app.app, federated.homes, federated.folder, tap=tap)
    finally:
        client_app.forget(list(federated.homes.values()))


@pytest.fixture(scope="module")
def undisturbed(small, tmp_path_factory):
    federated = small(tmp_path_factory.mktemp("whole"))
    start(federated)
    return result(federated)


@pytest.mark.parametrize(
    "when", [w if i % 3 == 0 else pytest.param(w, marks=pytest.mark.nightly) for i, w in enumerate(DEATHS)]
)
def test_a_death_changes_no_bit(small, tmp_path, undisturbed, when):
    type_, left = DEATHS[when]
    federated, count = small(tmp_path), 0

    def die(_party: str, data: bytes) -> None:
        nonlocal count
        at = data.find(b"fpm1")
        count += Envelope.decode(data[at:]).type == type_
        if count == left:
            raise Death

    with pytest.raises(Death):
        start(federated, die)
    assert not (federated.folder / "outcome.json").exists()
    start(federated)
    assert result(federated) == undisturbed


def test_three_deaths_in_a_row_change_no_bit(small, tmp_path, undisturbed):
    """Each start agrees new keys, so that no mask is ever used for two vectors."""
    federated, masked = small(tmp_path), []

    def die(party: str, data: bytes) -> None:
        envelope = Envelope.decode(data[data.find(b"fpm1") :])
        if envelope.type == "uploads" and party == "tax":
            masked.append(envelope.parts[0][-64:])
            if len(masked) < 4:
                raise Death

    for _ in range(3):
        with pytest.raises(Death):
            start(federated, die)
    start(federated, die)
    assert result(federated) == undisturbed
    assert len(set(masked)) == len(masked) == 3 + 4
