"""The published vectors: what a second implementation wrote, this one says too; every bad_* file meets its exact error."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedprofile.errors import ProtocolError
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.codes import RESILIENT, STRICT
from fedprofile.secagg.encoding import pack, quantise
from fedprofile.secagg.graph import Circle
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.keys import PairKeys, transcript_hash
from fedprofile.secagg.keystream import BACKENDS, SLACK, ZEROS, nonce
from fedprofile.secagg.masking import add_masks
from fedprofile.secagg.messages import KeyBundle, MaskedSum, OpenBundle, Round, Upload
from fedprofile.secagg.resilient_client import ResilientSession
from fedprofile.secagg.resilient_server import ResilientServer
from fedprofile.secagg.server import ServerSession
from fedprofile.secagg.shares import deal, derive, own_seed, self_key
from fedprofile.secagg.tree import tree_root
from fedprofile.secagg.wire import ZERO_HASH, wire_order
from fedprofile.types import RING_DTYPE, Policy, Quantised, Roster

FOLDER = Path(__file__).parents[1] / "vectors" / "fps1"
ROUNDS = sorted(p.stem for p in FOLDER.glob("round_*.json"))
BAD = sorted(p.stem for p in FOLDER.glob("bad_*.json"))


@cache
def _read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


SETUP = _read("setup")
ROSTER = Roster.from_json(SETUP["roster"] | {"signatures": []})
POLICY = Policy.from_json(SETUP["policy"])
SCHEMA = bytes.fromhex(SETUP["hashes"]["schema_hash"])
RUN = bytes.fromhex(SETUP["run"])


def _bytes(message: str) -> bytes:
    """Hex, or the name of a message: "setup:...", "round:...", or of a file "resilient_..."."""
    place, _, name = message.partition(":")
    known = {
        "setup": lambda: SETUP["messages"][name],
        "round": lambda: _read(f"round_{name}")["Round"],
        "resilient": lambda: FIVE["messages"][name],
    }
    return bytes.fromhex(known.get(place, lambda: _read(f"resilient_{place}")["messages"][name])() if name else message)


def _session(party: str, policy: Policy = POLICY, history: tuple[Any, ...] = ()) -> ClientSession:
    me, draws = SETUP["parties"][party], iter(SETUP["parties"][party]["draws"])
    identity = Identity.from_seed(bytes.fromhex(me["identity_seed"]))
    options = {"common": POLICY, "schema_hash": SCHEMA, "history": history}
    return ClientSession(identity, party, ROSTER, policy, lambda _n: bytes.fromhex(next(draws)), [].append, **options)  # type: ignore[arg-type]


FIVE, RING = _read("resilient_setup"), _read("resilient_ring-setup")


def _resilient(setup: Any, party: str, policy: Policy | None = None) -> ResilientSession:
    known, common = setup["parties"][party], Policy.from_json(setup["policy"])
    roster, draws = Roster.from_json(setup["roster"] | {"signatures": []}), iter(known["draws"])
    identity = Identity.from_seed(bytes.fromhex(known["identity_seed"]))
    options = {"common": common, "schema_hash": bytes.fromhex(setup["schema_hash"])}
    rand = lambda _n: bytes.fromhex(next(draws))  # noqa: E731
    return ResilientSession(identity, party, roster, policy or common, rand, [].append, **options)


def _resilient_server(setup: Any) -> ResilientServer:
    roster, policy = Roster.from_json(setup["roster"] | {"signatures": []}), Policy.from_json(setup["policy"])
    names, schema = tuple(p.id for p in roster.parties), bytes.fromhex(setup["schema_hash"])
    return ResilientServer(bytes.fromhex(setup["run"]), roster, policy, names, "resilient", schema_hash=schema)


def _quantised(integers: dict[str, list[int]], round: Round) -> Quantised:
    shapes = {s.name: (s.shape, s.ring) for s in round.layout.segments if s.name in integers}
    return Quantised(
        {
            n: np.array([v % (1 << ring) for v in integers[n]], RING_DTYPE[ring]).reshape(shape)
            for n, (shape, ring) in shapes.items()
        }
    )


class Node:
    """One node of the vectors, driven by steps."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.session: ClientSession
        if case.get("profile") == "resilient":
            own = Policy.from_json(FIVE["policy"] | case.get("policy", {}))
            self.session = _resilient(FIVE, case["party"], own)
            return
        policy = Policy.from_json(SETUP["policy"] | case.get("policy", {}))
        self.session = _session(case["party"], policy, tuple(case.get("history", ())))

    def handle(self, message: str) -> bytes | None:
        return self.session.handle(_bytes(message))

    def verify_round(self, message: str) -> None:
        self.round = self.session.verify_round(_bytes(message))

    def contribute(self, integers: dict[str, list[int]], audit_head: str = "") -> bytes:
        head = bytes.fromhex(audit_head) or ZERO_HASH
        return self.session.contribute(self.round, _quantised(integers, self.round), head)

    def open_sum(self, message: str) -> Any:
        return self.session.open_sum(_bytes(message), self.round)


class Coordinator:
    """The coordinator of the vectors, driven by steps; replies of nodes come from setup.json."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.place, self.parties, self.session = "setup", SETUP["parties"], self._strict()
        if case.get("profile") == "resilient":
            self.place, self.parties, self.session = "resilient", FIVE["parties"], _resilient_server(FIVE)

    def _strict(self) -> ServerSession:
        return ServerSession(RUN, ROSTER, POLICY, tuple(SETUP["parties"]), schema_hash=SCHEMA)

    def setup_request(self) -> bytes:
        return self.session.setup_request()

    def key_bundle(self) -> bytes:
        return self.session.key_bundle({p: _bytes(f"{self.place}:KeyAd/{p}") for p in self.parties})

    def open_bundle(self) -> bytes:
        return self.session.open_bundle({p: _bytes(f"{self.place}:KeyOpen/{p}") for p in self.parties})

    def round(self, message: str) -> bytes:
        r = self._asked = Round.decode(_bytes(message), self.session.roster)
        hashes = {"spine_hash": r.spine_hash, "bundle_hash": r.bundle_hash, "audit_head": r.audit_head}
        return self.session.round(r.id, r.cohort, r.layout, r.model, **hashes, epoch=r.epoch)

    def add(self, sender: str, message: str) -> None:
        self.session.add(self._asked.id, sender, _bytes(message))

    def survivors(self) -> bytes | None:
        return self.session.survivors(self._asked.id)

    def agree(self, sender: str, message: str) -> None:
        self.session.agree(self._asked.id, sender, _bytes(message))

    def requests(self) -> Any:
        return self.session.requests(self._asked.id)

    def reveal(self, sender: str, message: str) -> None:
        self.session.reveal(self._asked.id, sender, _bytes(message))

    def open(self) -> Any:
        return self.session.open(self._asked.id)


def _play(actor: Node | Coordinator, step: dict[str, Any]) -> Any:
    return getattr(actor, step["call"])(**{k: v for k, v in step.items() if k != "call"})


@pytest.fixture(scope="module")
def ready() -> dict[str, ClientSession]:
    """All parties after the set-up of the vectors; each answer on the way was the recorded one."""
    sessions = {p: _session(p) for p in SETUP["parties"]}
    for asked, answer in (("SetupReq", "KeyAd"), ("KeyBundle", "KeyOpen")):
        for p, s in sessions.items():
            assert s.handle(_bytes(f"setup:{asked}")) == _bytes(f"setup:{answer}/{p}")
    for s in sessions.values():
        assert s.handle(_bytes("setup:OpenBundle")) is None
    return sessions


def test_generating_again_gives_the_same_bytes(tmp_path):
    subprocess.run([sys.executable, FOLDER / "generate.py", tmp_path], check=True)
    names = {p.name for p in FOLDER.glob("*.json")}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert [n for n in sorted(names) if (tmp_path / n).read_bytes() != (FOLDER / n).read_bytes()] == []


def test_set_up(ready):
    assert list(wire_order(tuple(SETUP["parties"]))) == SETUP["wire_order"]
    assert (ROSTER.hash.hex(), POLICY.hash.hex()) == (SETUP["hashes"]["roster_hash"], SETUP["hashes"]["policy_hash"])
    for p, known in SETUP["parties"].items():
        assert (ROSTER.party(p).wire_id.hex(), ROSTER.party(p).sign_pk.hex()) == (known["wire_id"], known["sign_pk"])
    ads = KeyBundle.decode(_bytes("setup:KeyBundle"), ROSTER).items
    opens = OpenBundle.decode(_bytes("setup:OpenBundle"), ROSTER).items
    assert transcript_hash(ads, opens).hex() == SETUP["T0"]
    server = Coordinator({})
    sent = (server.setup_request(), server.key_bundle(), server.open_bundle())
    assert sent == tuple(_bytes(f"setup:{m}") for m in ("SetupReq", "KeyBundle", "OpenBundle"))


def test_pair_keys_at_several_t():
    t0 = bytes.fromhex(SETUP["T0"])
    ads = {ad.party: ad.pk_mask for ad in KeyBundle.decode(_bytes("setup:KeyBundle"), ROSTER).items}
    for pair, known in SETUP["pair_keys"].items():
        for me, peer in (pair.split(), pair.split()[::-1]):
            session = _session(me)
            session.handle(_bytes("setup:SetupReq"))
            assert session._handshake is not None
            assert session._handshake.secrets is not None
            keys = PairKeys.agree(me, session._handshake.secrets.mask, {peer: ads[peer]}, t0, 0)
            for t, expected in sorted(known.items(), key=lambda item: int(item[0])):
                keys.advance(int(t))
                assert keys._keys[peer].hex() == expected


def test_rounds_from_values_to_the_opened_sum(ready):
    """In the order of t, with every recorded byte on the way: Round, H, basis, integers, y, Upload, sums."""
    server = Coordinator({})
    _ = server.setup_request(), server.key_bundle(), server.open_bundle()
    for name in ("round_stats", "round_update", "round_update-retry", "round_role", "round_score"):
        v = _read(name)
        data = server.round(v["Round"])
        assert data.hex() == v["Round"]
        round = Round.decode(data, ROSTER)
        hashes = (round.bind(bytes.fromhex(SETUP["T0"])), round.basis, round.layout.hash)
        assert tuple(h.hex() for h in hashes) == (v["H"], v["basis"], v["layout_hash"])
        for p, sent in v["parties"].items():
            server.add(p, _upload(ready[p], data, sent).hex())
        if round.id.opener:
            total = server.session.masked_sum(round.id)
            assert total.hex() == v["MaskedSum"]
            opener = ready[round.id.opener]
            values = opener.open_sum(total, opener.verify_round(data))
        else:
            values = server.session.open(round.id).values
        for n, a in values.items():
            assert a.ravel().astype(">f8").tobytes().hex() == "".join(v["opened"]["float64"][n])


def _upload(session: ClientSession, data: bytes, sent: dict[str, Any]) -> bytes:
    round = session.verify_round(data)
    shapes = {s.name: s.shape for s in round.layout.segments}
    values = {n: np.array(x).reshape(shapes[n]) for n, x in sent["values"].items()}
    quantised = quantise(values, round.layout, lambda _n: bytes.fromhex(sent["dither"]))
    assert pack(quantised, round.layout) == pack(_quantised(sent["integers"], round), round.layout)
    head = Upload.decode(bytes.fromhex(sent["upload"]), ROSTER).audit_head
    upload = session.contribute(round, quantised, head)
    assert bytes(Upload.decode(upload, ROSTER).y).hex() == sent["y"]
    assert upload.hex() == sent["upload"]
    return upload


@pytest.mark.parametrize("name", ROUNDS)
def test_pads_and_keystream(name):
    """k_ij with its sign from both ends, and the first 64 bytes of every recorded place, in both backends."""
    v, sessions = _read(name), {p: _session(p) for p in SETUP["parties"]}
    round = Round.decode(bytes.fromhex(v["Round"]), ROSTER)
    for me, s in sessions.items():
        for m in ("SetupReq", "KeyBundle", "OpenBundle"):
            s.handle(_bytes(f"setup:{m}"))
        if me in round.cohort:
            s.advance(round.id.t)
            pads = dict(
                zip(
                    [p for p in round.cohort if p != me],
                    s._ready().pads(bytes.fromhex(v["H"]), round.cohort),
                    strict=True,
                )
            )
            assert {p: [k.hex(), sign] for p, (k, sign) in pads.items()} == v["k_ij"][me]
    for place in v["keystream_64"]:
        for backend in BACKENDS.values():
            target = bytearray(64 + SLACK)
            iv = nonce(place["ring"], place["segment"])
            backend(bytes.fromhex(place["key"]), iv).update_into(ZEROS[:64], target)
            assert target[:64].hex() == place["bytes"]


def test_a_pad_across_segments():
    v = _read("long")
    for ring, expected in v["sha256_of_pad"].items():
        vector = np.zeros(v["elements"], RING_DTYPE[int(ring)])
        add_masks({int(ring): vector}, [(bytes.fromhex(v["key"]), 1)])
        assert hashlib.sha256(vector.tobytes()).hexdigest() == expected
    assert tree_root(vector[: 1 << 19].tobytes()).hex() == v["tree_root_of_first_segment_64"]


def test_the_masked_sum_hides_what_the_opener_sees():
    v = _read("round_score")
    y = np.frombuffer(MaskedSum.decode(bytes.fromhex(v["MaskedSum"]), ROSTER).y, "<i2")
    assert not np.array_equal(y, v["opened"]["integers"]["scores"])


@pytest.mark.parametrize("name", BAD)
def test_bad_vectors_meet_their_exact_error(name):
    case = _read(name)
    actor = {"node": Node, "coordinator": Coordinator}[case["side"]](case)
    for step in case["before"]:
        _play(actor, step)
    with pytest.raises(ProtocolError) as refused:
        _play(actor, case["bad"])
    assert refused.value.code == case["error"]


@pytest.mark.parametrize(
    ("setup", "name"), [("setup", "full"), ("setup", "dropped"), ("ring-setup", "ring")], ids=lambda v: v
)
def test_a_resilient_sum_from_values_to_the_opened_sum(setup, name):
    """Every recorded byte on the way: set-up, graph, keys, shares, uploads, agreements, openings, reveals, sums."""
    known, v = _read(f"resilient_{setup}"), _read(f"resilient_{name}")
    nodes, server = _resilient_set_up(known)
    data = bytes.fromhex(v["messages"]["Round"])
    round = Round.decode(data, server.roster)
    assert round.bind(bytes.fromhex(known["T0"])).hex() == v["H"]
    assert server.round(round.id, round.cohort, round.layout, round.model) == data
    circle, graph = server._pending["update", ""].circle, known["graph"]
    kept = circle.graph.degree, circle.graph.threshold, circle.graph.quorum, circle._ring
    assert kept == (graph["degree"], graph["threshold"], graph["quorum"], graph["ring"])
    for p, sent in v["parties"].items():
        request = nodes[p].verify_round(data)
        quantised = _values_of(sent, request)
        head = hashlib.sha256(f"fps1 test vector/head/{p}".encode()).digest()
        upload = nodes[p].contribute(request, quantised, head)
        _check_secrets(nodes[p], v["secrets"].get(p), bytes.fromhex(v["H"]), circle)
        _recorded(v, f"ResilientUpload/{p}", upload)
        server.add(round.id, p, upload)
    if survivors := server.survivors(round.id):
        _recorded(v, "Survivors", survivors)
        for p in v["survivors"]:
            agreed = nodes[p].handle(survivors)
            _recorded(v, f"Agree/{p}", agreed)
            server.agree(round.id, p, agreed)
    for p, request in server.requests(round.id).items():
        _recorded(v, f"Open/{p}", request)
        revealed = nodes[p].handle(request)
        _recorded(v, f"Reveal/{p}", revealed)
        server.reveal(round.id, p, revealed)
    opened = server.open(round.id)
    assert list(opened.members) == v["survivors"]
    for n, a in opened.values.items():
        assert a.ravel().astype(">f8").tobytes().hex() == "".join(v["opened"]["float64"][n])


def _resilient_set_up(known: Any) -> tuple[dict[str, ResilientSession], ResilientServer]:
    nodes, server = {p: _resilient(known, p) for p in known["parties"]}, _resilient_server(known)
    replies: dict[str, Any] = {}
    for made, message, answer in (
        (lambda _: server.setup_request(), "SetupReq", "KeyAd"),
        (server.key_bundle, "KeyBundle", "KeyOpen"),
        (server.open_bundle, "OpenBundle", ""),
    ):
        data = made(replies)
        assert data.hex() == known["messages"][message]
        replies = {p: node.handle(data) for p, node in nodes.items()}
        assert not answer or all(r.hex() == known["messages"][f"{answer}/{p}"] for p, r in replies.items())
    return nodes, server


def _values_of(sent: Any, round: Round) -> Quantised:
    shapes = {s.name: s.shape for s in round.layout.segments}
    values = {n: np.array(x).reshape(shapes[n]) for n, x in sent["values"].items()}
    quantised = quantise(values, round.layout, lambda _n: bytes.fromhex(sent["dither"]))
    assert pack(quantised, round.layout) == pack(_quantised(sent["integers"], round), round.layout)
    return quantised


def _check_secrets(node: ResilientSession, known: Any, h: bytes, circle: Circle) -> None:
    """Share keys, seed, self mask, pads, checks, and the shares of every holder that derives its own."""
    if known is None:
        return
    keys, me = node._share_keys(), node.me
    assert {p: bytes(keys._keys[p]).hex() for p in circle.holders(me)} == known["share_keys"]
    assert own_seed(keys, me, h).hex() == known["seed"]
    assert self_key(own_seed(keys, me, h), h).hex() == known["self_key"]
    pads = dict(zip(circle.neighbours(me), node._ready().pads(h, circle.neighbours(me)), strict=True))
    assert {p: key.hex() for p, (key, _) in pads.items()} == known["k_ij"]
    assert list(circle.derived(me)) == known["derived"]
    checks, _ = deal(keys, me, h, circle, {p: key for p, (key, _) in pads.items()})
    assert checks.hex() == known["checks"]
    for p in known["derived"]:
        assert [s.hex() for s in derive(keys, p, me, p, h, len(known["shares"][p]))] == known["shares"][p]


def _recorded(v: Any, name: str, data: bytes) -> None:
    if name in v["messages"]:
        assert data.hex() == v["messages"][name], name
    if "sha256" in v:
        assert hashlib.sha256(data).hexdigest() == v["sha256"][name], name


def test_the_bad_vectors_cover_most_codes():
    """Left out: what only this side's own caller can cause."""
    met = {_read(name)["error"] for name in BAD}
    assert set(RESILIENT) - met == {
        "threshold_refused",
        "bad_ciphertext",
    }  # test_resilient_client.py, test_handshake.py
    own = {"bad_identity", "bad_roster", "bad_random", "not_verified"}
    elsewhere = {"unknown_signer", "unsigned_roster"}  # test_identity.py
    assert len(BAD) >= 20
    assert set(STRICT) - met - own - elsewhere == {"too_large"}
