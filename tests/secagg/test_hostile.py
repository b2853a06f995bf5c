"""The 18 hostile cases that Flower's SecAgg+ client was measured with (it refused 6), against this client.

And: a byte changed in any message ends in an abort.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from fedprofile.errors import ProtocolError
from fedprofile.secagg.encoding import pack, quantise
from fedprofile.secagg.identity import Identity, sign_roster
from fedprofile.secagg.messages import (
    Agree,
    KeyAd,
    KeyBundle,
    Open,
    ResilientUpload,
    Round,
    SetupReq,
    Survivors,
    Upload,
)
from fedprofile.secagg.wire import wire_order
from fedprofile.types import Layout, Party, Quantised, Roster, Segment

SMALL = Layout((Segment("w", (4,), 16, 1.0, 2**-10),))


class Case:
    """Four nodes after their set-up and a plain round of t = 1, not yet answered; ``node`` is the one under attack."""

    def __init__(self, federate, n: int = 4, profile: str = "strict") -> None:
        self.fed = federate(n, profile=profile)
        self.request = self.fed.server.setup_request()
        self.ads = {p: s.handle(self.request) for p, s in self.fed.nodes.items()}
        self.bundle = self.fed.server.key_bundle(self.ads)
        self.opens = {p: s.handle(self.bundle) for p, s in self.fed.nodes.items()}
        self.open_bundle = self.fed.server.open_bundle(self.opens)
        for s in self.fed.nodes.values():
            s.handle(self.open_bundle)
        self.node, self.values = self.fed.nodes["tax1"], self.fed.integers(SMALL)
        self.data = self.fed.server.round(self.fed.id(t=1), self.fed.names, SMALL, b"m")
        self.round = Round.decode(self.data, self.fed.roster)

    def verify(self, **changes):
        return self.node.verify_round(replace(self.round, **changes).encode())

    def segment(self, **changes):
        return self.verify(layout=Layout((replace(SMALL.segments[0], **changes),)))

    def fresh(self, *messages: bytes):
        """A new process of the node under attack, with the same secrets, after the given messages."""
        node = self.fed.session("tax1")
        for message in messages:
            node.handle(message)
        return node

    def with_ad(self, ad: KeyAd) -> bytes:
        ads = {p: KeyAd.decode(data, self.fed.roster) for p, data in self.ads.items()} | {ad.party: ad}
        return KeyBundle(tuple(ads[p] for p in wire_order(tuple(ads)))).encode()


def threshold(case: Case, opened_with: int):
    """A sum of ``opened_with`` uploads: noise to whoever adds them, and refused by the honest coordinator."""
    uploads = {p: case.fed.upload(p, case.data, q) for p, q in case.values.items()}
    few = dict(list(uploads.items())[:opened_with])
    y = sum(np.frombuffer(Upload.decode(u, case.fed.roster).y, "<u2").astype(np.uint16) for u in few.values())
    x = sum(np.frombuffer(pack(case.values[p], SMALL), "<u2").astype(np.uint16) for p in few)
    assert np.count_nonzero(y == x) <= 1
    case.fed.server.open(case.fed.id(t=1), few)


def sybil(case: Case):
    """A peer's key whose private half the coordinator has; then its own party, under a roster nobody here signed."""
    ad = replace(KeyAd.decode(case.ads["tax2"], case.fed.roster), pk_mask=b"\5" * 32)
    with pytest.raises(ProtocolError, match="bad_signature"):
        case.fresh(case.request).handle(case.with_ad(ad.signed(Identity.from_seed(b"c" * 32))))
    other = Identity.from_seed(hashlib.sha256(b"sybil").digest())
    roster = sign_roster(
        Roster(1, b"", (*case.fed.roster.parties, Party("sybil", "x", "tax", other.sign_pk)), "bank"), case.fed.ids
    )
    request = SetupReq.decode(case.request, case.fed.roster)
    request = replace(request, setup=2, roster_hash=roster.hash, cohort=wire_order((*case.fed.names, "sybil")))
    case.node.handle(request.encode())


def own_key(case: Case):
    ad = KeyAd.decode(case.ads["tax1"], case.fed.roster)
    case.fresh(case.request).handle(case.with_ad(replace(ad, pk_mask=b"\5" * 32).signed(case.fed.ids["tax1"])))


def duplicate_keys(case: Case):
    ads = {p: KeyAd.decode(case.ads[p], case.fed.roster) for p in ("tax2", "tax3")}
    case.fresh(case.request).handle(
        case.with_ad(replace(ads["tax2"], pk_mask=ads["tax3"].pk_mask).signed(case.fed.ids["tax2"]))
    )


def restart(case: Case):
    case.fed.upload("tax1", case.data, case.values["tax1"])
    case.fed.session("tax1", history=case.fed.journals["tax1"]).verify_round(case.data)


def not_a_number(case: Case):
    case.node.contribute(
        case.verify(), quantise({"w": np.array([0.0, np.nan, 0, 0])}, SMALL, case.fed.arguments("tax1")[4])
    )


def huge_count(case: Case):
    """A count saturates at the layout's clip, which no layout may set so wide that the sum leaves its ring."""
    wide = Layout((Segment("count", (1,), 32, 2.0**20, 1.0),))
    assert quantise({"count": np.array([1e9])}, wide, case.fed.arguments("tax1")[4]).saturated == 1
    case.verify(layout=Layout((Segment("count", (1,), 32, 1e9, 1.0),)))


def second_opening(case: Case):
    upload = case.verify()
    case.node.contribute(upload, case.values["tax1"])
    case.node.contribute(upload, Quantised({"w": np.zeros(4, np.uint16)}))


def declared_dead(case: Case):
    """After its upload, a peer is left out of a retry."""
    case.fed.upload("tax1", case.data, case.values["tax1"])
    rest = wire_order(("bank", "tax1", "tax2"))
    case.verify(cohort=rest, id=replace(case.round.id, attempt=1))


class Opening:
    """The coordinator of a resilient round after every upload: it writes each Survivors and Open itself."""

    def __init__(self, case: Case) -> None:
        self.case, self.fed, self.everyone = case, case.fed, wire_order(case.fed.names)
        self.uploads = {
            p: ResilientUpload.decode(self.fed.upload(p, case.data, q), self.fed.roster) for p, q in case.values.items()
        }
        self.h = self.uploads["tax1"].upload.h
        self.sealing = tuple(p for p in self.everyone if "tax1" in dict(self.uploads[p].shares))

    def survivors(self, alive: tuple[str, ...]):
        return self.case.node.handle(Survivors(self.case.round.id, self.h, alive).encode())

    def open(self, alive: tuple[str, ...], owners: tuple[str, ...], flip: int = 0):
        """Asked of the node under attack; ``flip`` changes a bit of the first owner's sealed shares."""
        id = self.case.round.id
        signed = tuple((p, Agree(id, p, self.h, alive).signed(self.fed.ids[p]).signature) for p in alive)
        shares = [(p, dict(self.uploads[p].shares)["tax1"]) for p in owners if p in self.sealing]
        shares[0] = shares[0][0], bytes((shares[0][1][0] ^ flip,)) + shares[0][1][1:]
        return self.case.node.handle(Open(id, self.h, alive, signed, tuple(shares)).encode())


def active_and_dead(case: Case):
    """A peer that the node agreed to do without: its shares are asked for all the same, then it is named alive."""
    opening = Opening(case)
    alive = tuple(p for p in opening.everyone if p != opening.sealing[0])
    opening.survivors(alive)
    with pytest.raises(ProtocolError, match="bad_share"):
        opening.open(alive, opening.everyone)
    opening.open(opening.everyone, opening.everyone)


def tampered(case: Case):
    opening = Opening(case)
    opening.open(opening.everyone, opening.everyone, flip=1)


HOSTILE = {
    "cohort of one": (lambda c: c.verify(cohort=("tax1",)), "too_few_hidden"),
    "threshold 1 of 3": (lambda c: threshold(c, 1), "missing_member"),
    "threshold 2 of 10": (lambda c: threshold(c, 2), "missing_member"),
    "uploaded peer declared dead": (declared_dead, "cohort_refused"),
    "unequal survivor lists": (lambda c: c.verify(cohort=wire_order(("bank", "tax1", "tax3"))), "cohort_refused"),
    "unsigned sybil peer keys": (sybil, "unknown_party"),
    "restart mid-round": (restart, "need_setup"),
    "clipping range 1e9": (lambda c: c.segment(clip=1e9, scale=1e7), "clip_refused"),
    "modulus 2": (lambda c: c.segment(ring=1), "bad_layout"),
    "NaN": (not_a_number, "bad_values"),
    "count 1e9": (huge_count, "layout_overflow"),
    "duplicate keys": (duplicate_keys, "duplicate"),
    "own key altered": (own_key, "restore_mismatch"),
    "stage skipped": (lambda c: c.fresh(c.request).handle(c.open_bundle), "wrong_state"),
    "second unmask": (second_opening, "already_contributed"),
    "id both active and dead": (active_and_dead, "survivors_changed"),
    "tampered ciphertext": (tampered, "bad_share"),
    "unknown id": (lambda c: c.verify(cohort=wire_order((*c.fed.names, "zed"))), "unknown_party"),
}
# what only the resilient profile has messages for
RESILIENT = ("id both active and dead", "tampered ciphertext")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_case_is_refused(federate, name):
    attack, code = HOSTILE[name]
    members = {"threshold 1 of 3": 3, "threshold 2 of 10": 10}.get(name, 4)
    case = Case(federate, members, "resilient" if name in RESILIENT else "strict")
    with pytest.raises(ProtocolError) as refused:
        attack(case)
    assert refused.value.code == code


def test_all_18_cases_are_here():
    assert len(HOSTILE) == 18


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ (1 << at % 8),)) + data[at + 1 :]


def test_a_node_refuses_every_changed_byte_of_a_bundle_or_round(federate):
    """All positions. A changed SetupReq and the messages of nodes are in test_messages.py, also all positions."""
    case = Case(federate, 3)
    for at in range(len(case.data)):
        with pytest.raises(ProtocolError):
            case.node.verify_round(_flipped(case.data, at))
    for before, message in (((case.request,), case.bundle), ((case.request, case.bundle), case.open_bundle)):
        for at in range(len(message)):
            with pytest.raises(ProtocolError):
                case.fresh(*before).handle(_flipped(message, at))
    assert case.fed.server.open(case.fed.id(t=1), {p: case.fed.upload(p, case.data, q) for p, q in case.values.items()})


def test_the_masked_vector_is_covered_to_its_last_byte(federate):
    """Two leaves of the hash tree: their edges and places in between; small vectors are flipped in full in test_messages.py."""
    case = Case(federate, 3)
    long = Layout((Segment("w", (600_000,), 16, 1.0, 2**-10),))
    zeros = Quantised({"w": np.zeros(600_000, np.uint16)})
    data = case.fed.server.round(case.fed.id(t=2), case.fed.names, long, b"m")
    upload = bytearray(case.fed.upload("tax1", data, zeros))
    head = len(upload) - long.nbytes
    for at in {head, head + 2**20 - 1, head + 2**20, len(upload) - 1, *range(head, len(upload), 99_700)}:
        upload[at] ^= 1
        with pytest.raises(ProtocolError, match="bad_root"):
            case.fed.server.add(case.fed.id(t=2), "tax1", upload)
        upload[at] ^= 1
    case.fed.server.add(case.fed.id(t=2), "tax1", upload)
