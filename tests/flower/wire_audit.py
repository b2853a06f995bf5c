"""What an outsider may find in the bytes that nodes send: ``audit`` accounts for every one of them.

Each message is compared with a script that follows from the job alone: which replies a party gives, in which order,
with which body, which fps1 messages as parts and how long each is. What is left are keys, signatures, sealed labels
and masked vectors, and those must look random and hold nothing that ``wire_secrets`` finds in the nodes' homes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from wire_secrets import check_masked, check_random, check_secrets, union_names

from fedprofile.acknowledging import Acknowledgement
from fedprofile.aggregation import (
    counts_layout,
    delta_layout,
    gain_layout,
    role_takes_trunk,
    round_clip,
    score_layout,
    update_layout,
)  # fmt: skip
from fedprofile.alignment.letters import OVERHEAD as LETTER_OVERHEAD
from fedprofile.alignment.letters import (
    SIGNED_LIST,
    SIGNED_SPINE,
    LetterType,
    SpineFact,
    body_size,
    list_bytes,
    size_class,
)
from fedprofile.coordinator.job import Job
from fedprofile.governance.chain import Head, Record
from fedprofile.messages import MAX_BODY, UPWARD, Envelope
from fedprofile.models.features import FeatureMap
from fedprofile.models.layout import encoder_shapes, shared_shapes
from fedprofile.node.audit import SEALED, log_of
from fedprofile.node.home import NodeHome
from fedprofile.node.party import SIGNED_RELEASE
from fedprofile.node.spine import read_spine
from fedprofile.privacy.sealing import SEAL_OVERHEAD
from fedprofile.secagg.identity import Identity, verify
from fedprofile.secagg.keys import commitment
from fedprofile.secagg.messages import (
    KeyAd,
    KeyBundle,
    KeyOpen,
    Upload,
    expected_key_ad_size,
    expected_key_open_size,
    expected_upload_size,
)
from fedprofile.secagg.server import ServerSession
from fedprofile.secagg.setup_messages import is_hybrid
from fedprofile.secagg.wire import SIGNATURE, wire_order
from fedprofile.types import Layout, Roster, RoundId

Captured = Sequence[tuple[str, bytes]]
CONTROL = {"identity", "ready", "aligned", "labels-stored", "bins-stored", "opened", "finished"}
LETTERS: dict[str, LetterType] = {
    "points": "points",
    "spine": "answer",
    "claims": "claims",
    "views": "views",
    "masked": "list",
}
"""Reply type -> the letters that it carries."""
FRAME = 512
"""More than Flower's own framing of one message."""


@dataclass(frozen=True)
class Step:
    """One reply that a party owes: its type; for uploads, sum and layout of each part; for a list, whose it is."""

    type: str
    sums: tuple[tuple[RoundId, Layout], ...] = ()
    about: str = ""


@dataclass
class Seen:
    """Masked vectors by sum and party, in the order sent; handshake messages by party; all raw bytes."""

    roster: Roster
    vectors: dict[RoundId, dict[str, bytes]] = field(default_factory=dict)
    layouts: dict[RoundId, Layout] = field(default_factory=dict)
    heads: dict[RoundId, bytes] = field(default_factory=dict)
    ads: dict[str, KeyAd] = field(default_factory=dict)
    opens: dict[str, KeyOpen] = field(default_factory=dict)
    sealed: list[tuple[str, bytes]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    audited: dict[str, bytes] = field(default_factory=dict)
    ledgers: dict[str, list[tuple[Head, Record]]] = field(default_factory=dict)


def audit(captured: Captured, job: Job, homes: Mapping[str, Path]) -> None:
    """Raises AssertionError at the first byte that a whole, undisturbed run should not have sent."""
    scripts, seen = {party: _script(job, homes, party) for party in homes}, Seen(job.roster)
    seen.ledgers = {party: list(log_of(NodeHome(home)).chain.lines()) for party, home in homes.items()}
    for party, data in captured:
        envelope = _flower(party, data, homes)
        step = next(scripts[party], None)
        assert step is not None, f"{party} sent more than its script"
        assert envelope.type == step.type, f"{party} sent {envelope.type} instead of {step.type}"
        _check(party, envelope, step, job, homes, seen)
        _check_ledger(party, envelope, seen)
        seen.raw.append(data)
    _check_handshake(job, seen)
    check_secrets(b"".join(seen.raw), homes, job)
    for party, sealed in seen.sealed:
        check_random(sealed, f"what was sealed, {party},")
    check_masked(seen.vectors, seen.layouts, homes)
    assert not any(any(True for _ in rest) for rest in scripts.values()), "the run is not whole: replies are missing"
    left = [party for party, lines in seen.ledgers.items() if any(r["event"] == "sent" for _, r in lines)]
    assert not left, f"the egress ledger lists more than was sent: {left}"


def _check_ledger(party: str, envelope: Envelope, seen: Seen) -> None:
    """The next message in the party's egress ledger is this one; ``audited`` is the head before its append."""
    lines, raw = seen.ledgers[party], envelope.encode()
    while lines and lines[0][1]["event"] != "sent":
        head, _ = lines.pop(0)
        if head.signature:
            seen.audited[party] = head.hash
    assert lines, f"{party} sent a message that its egress ledger does not list"
    head, line = lines.pop(0)
    known = None if envelope.type in SEALED else hashlib.sha256(raw).hexdigest()
    assert (line["type"], line["bytes"], line.get("sha256")) == (envelope.type, len(raw), known), "another message"
    if envelope.type == "uploads":
        sums = [[i.kind, i.scope, i.t, i.attempt] for i in (Upload.decode(p, seen.roster).id for p in envelope.parts)]
        assert line["sums"] == sums, "the egress ledger names other sums"
        for part in envelope.parts:
            assert Upload.decode(part, seen.roster).audit_head == seen.audited[party], (
                "not the head before this message"
            )
    seen.audited[party] = head.hash


def _flower(party: str, data: bytes, homes: Mapping[str, Path]) -> Envelope:
    """Flower's message around one envelope: nothing but routing, and exactly one record with one value."""
    proto = ProtoMessage.FromString(data)
    proto.DiscardUnknownFields()
    assert proto.SerializeToString() == data, "the Flower message holds fields of its own"
    meta = proto.metadata
    known = {"run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id", "ttl", "message_type",
             "created_at", "dst_task_id"}  # fmt: skip
    extra = {name.name for name, _ in meta.ListFields()} - known
    assert not extra, f"the metadata holds more than routing: {sorted(extra)}"
    assert meta.src_node_id == 2 + list(homes).index(party), "sent in the name of another node"
    assert (meta.run_id, meta.dst_node_id, meta.dst_task_id, meta.message_type) == (1, 1, 1, "query"), "other routing"
    assert meta.message_id == message_from_proto(proto).object_id, "the message id is not the content's hash"
    assert len(bytes.fromhex(meta.reply_to_message_id)) == 32, "reply_to is no message id"
    assert 0 < meta.ttl <= 600, "ttl out of range"
    assert not proto.HasField("error"), "a Flower error crossed"
    (item,) = proto.content.items or [None]
    assert item.key == "fedprofile", "another record"
    assert item.WhichOneof("value") == "config_record", "not a ConfigRecord"
    entries = item.config_record.items
    assert [e.key for e in entries] == ["envelope"], "a ConfigRecord with more than the envelope"
    assert entries[0].value.WhichOneof("value") == "bytes", "the envelope is not bytes"
    raw = entries[0].value.bytes
    envelope = Envelope.decode(raw)
    assert envelope.encode() == raw, "the envelope is not canonical"
    assert envelope.type in UPWARD, f"{envelope.type} may not leave a node"
    if envelope.type in CONTROL:
        assert len(raw) <= MAX_BODY, "a control message above 4 KiB"
    assert len(data) <= len(raw) + FRAME, "Flower's framing is too large"
    return envelope


def _script(job: Job, homes: Mapping[str, Path], party: str) -> Iterator[Step]:
    """The replies of one party in one undisturbed run."""
    plan, roster, everyone = job.plan, job.roster, len(job.roster.parties)
    role, owner, last = roster.party(party).role, party == roster.label_owner, job.plan.learning.rounds
    shares = role in plan.schemas
    members = len(roster.members(role))
    yield from map(Step, ("identity", "approval", "key-ad", "key-open", "ready"))
    if plan.align == "union":
        ring = [p.id for p in roster.parties]
        yield Step("listed")
        yield from (Step("masked", about=ring[ring.index(party) - hop]) for hop in range(everyone))
        yield from map(Step, ("names", "aligned"))
    elif plan.align == "simulated":
        yield Step("spine" if owner else "aligned")
    else:
        yield from map(Step, ("spine", "views") if owner else ("points", "claims", "aligned"))
    yield from map(Step, ("labels", "labels-stored") if owner else ("labels-stored",))
    if shares:
        yield Step("uploads", ((RoundId(plan.run_id, "stats", role, 0), counts_layout(plan.schemas[role], members)),))
        yield Step("bins-stored")
    trunk = shared_shapes(plan.tasks, plan.learning)
    for t in range(1, last + 1):
        shapes = trunk if plan.learning.share == "all" else {}
        sums = [(RoundId(plan.run_id, "update", "", t), update_layout(shapes, plan.learning, plan.tasks, t, everyone))]
        if shares:
            width = FeatureMap.from_json(json.loads((homes[party] / "run" / "features.json").read_text())).width
            inside = encoder_shapes(width, plan.learning) | (trunk if role_takes_trunk(plan.learning) else {})
            layout = delta_layout(inside, round_clip(plan.learning, t), members)
            sums.append((RoundId(plan.run_id, "role", role, t), layout))
        yield Step("uploads", tuple(sums))
    yield Step("uploads", ((RoundId(plan.run_id, "stats", "", last + 1), gain_layout(plan.tasks)),))
    if owner:
        yield Step("opened")
    else:
        id = RoundId(plan.run_id, "score", "", last + 2, opener=roster.label_owner)
        yield Step(
            "uploads", ((id, score_layout(_slots(homes, roster.label_owner), sum(t.outputs for t in plan.tasks))),)
        )
    yield Step("finished")


def _check(party: str, envelope: Envelope, step: Step, job: Job, homes: Mapping[str, Path], seen: Seen) -> None:
    """Body and parts of one reply against its step."""
    bodies = {"identity": {"party": party}, "approval": {"plan": job.plan.hash.hex()}}
    if envelope.type == "spine" and set(envelope.body) == {"size", "hash"}:
        bodies["spine"] = _fact(homes, job).to_body()
    if envelope.type == "listed":
        bodies["listed"] = {"size": _listed(homes[party])}
    if envelope.type == "finished" and party != job.roster.label_owner:
        bodies["finished"] = {"encoder": _acknowledged(homes[party], job).digest.hex()}
    assert envelope.body == bodies.get(envelope.type, {}), f"the body of {envelope.type} holds more than it should"
    owed = {"approval": 1, "key-ad": 1, "key-open": 1, "labels": len(homes), "uploads": len(step.sums)}
    owed |= {"points": 1, "spine": len(homes), "claims": 1, "views": len(homes) - 1}
    owed |= {"listed": 1, "masked": 1, "names": 1, "finished": int(party != job.roster.label_owner)}
    if job.plan.align == "simulated":
        owed["spine"] = 1
    assert len(envelope.parts) == owed.get(envelope.type, 0), f"{envelope.type} has more or fewer parts than it should"
    key = job.roster.party(party).sign_pk
    if envelope.type == "approval":
        assert len(envelope.parts[0]) == SIGNATURE, "an approval is one signature"
        verify(key, "approval", job.plan.hash, envelope.parts[0])
    if envelope.type == "finished" and party != job.roster.label_owner:
        assert envelope.parts[0] == _acknowledged(homes[party], job).signature, "an acknowledgement is one signature"
    hybrid, order = is_hybrid(job.kem), wire_order(tuple(homes))
    sizes = {
        KeyAd.TYPE: expected_key_ad_size(hybrid),
        KeyOpen.TYPE: expected_key_open_size(len(order) - 1 - order.index(party) if hybrid else None),
    }
    for kind, message, into in (("key-ad", KeyAd, seen.ads), ("key-open", KeyOpen, seen.opens)):
        if envelope.type == kind:
            assert len(envelope.parts[0]) == sizes[message.TYPE], f"{kind} of another size"
            into[party] = decoded = message.decode(envelope.parts[0], job.roster)
            assert (decoded.party, decoded.run_id) == (party, job.plan.run_id), f"{kind} of another party or run"
            decoded.verify(job.roster)
    if envelope.type == "spine":
        verify(key, SIGNED_SPINE, _fact(homes, job).signed_bytes(job.plan.hash), envelope.parts[0])
    if envelope.type == "listed":
        verify(
            key,
            SIGNED_LIST,
            list_bytes(job.plan.hash, job.roster.party(party), _listed(homes[party])),
            envelope.parts[0],
        )
    if envelope.type == "names":
        assert envelope.parts[0] == b"".join(sorted(union_names(homes, party))), f"names of {party} are not its names"
        seen.sealed.append((f"names of {party}", envelope.parts[0]))
    if envelope.type in LETTERS:
        _check_letters(party, envelope, step, homes, seen)
    if envelope.type == "labels":
        for to, part in zip(homes, envelope.parts, strict=True):
            plain = (homes[to] / "run" / "release.bin").stat().st_size
            assert len(part) == plain + SEAL_OVERHEAD + SIGNATURE, f"labels for {to} of another size than sealed ones"
            verify(key, SIGNED_RELEASE, part[:-SIGNATURE], part[-SIGNATURE:])
            seen.sealed.append((to, part[:-SIGNATURE]))
    for (id, layout), part in zip(step.sums, envelope.parts if step.sums else (), strict=True):
        _check_upload(party, part, id, layout, job, _fact(homes, job).hash, seen)


def _check_letters(party: str, envelope: Envelope, step: Step, homes: Mapping[str, Path], seen: Seen) -> None:
    """Sealed letters of an alignment: each of the one length that follows from padded sizes, none in the clear."""
    partners = [p for p in homes if NodeHome(homes[p]).config.label_owner != p]
    slots = 0 if envelope.type in ("points", "masked") else _slots(homes, NodeHome(homes[party]).config.label_owner)
    parts = envelope.parts[1:] if envelope.type == "spine" else envelope.parts
    about = partners if envelope.type in ("spine", "views") else [step.about or party]
    for partner, part in zip(about, parts, strict=bool(parts)):
        asked = _listed(homes[partner])
        due = body_size(LETTERS[envelope.type], asked, slots) + LETTER_OVERHEAD + SEAL_OVERHEAD
        assert len(part) == due, f"{envelope.type} of {party} of another size than a sealed letter"
        seen.sealed.append((f"{envelope.type} of {party}", part))


def _acknowledged(home: Path, job: Job) -> Acknowledgement:
    """The word that the node's key and the file in its home give, made again."""
    own, plan = NodeHome(home), job.plan.hash
    data = (home / "encoders" / f"{plan.hex()}.safetensors").read_bytes()
    return Acknowledgement.of(data, own.derive("encoder", plan), plan, Identity.from_seed(own.derive("identity")))


def _listed(home: Path) -> int:
    """How many points a party's customers make, padding included."""
    return size_class(len(pl.read_parquet(home / "table.parquet", columns=["__id__"])))


def _slots(homes: Mapping[str, Path], owner: str) -> int:
    return read_spine(NodeHome(homes[owner])).size


def _fact(homes: Mapping[str, Path], job: Job) -> SpineFact:
    """Size and hash as every node holds them."""
    facts = {SpineFact(s.size, s.hash) for s in (read_spine(NodeHome(home)) for home in homes.values())}
    assert len(facts) == 1, "nodes hold different spines"
    return facts.pop()


def _check_upload(
    party: str, part: bytes, id: RoundId, layout: Layout, job: Job, spine_hash: bytes, seen: Seen
) -> None:
    assert len(part) == expected_upload_size(layout), f"an upload of {id.kind} of another size than its layout"
    upload = Upload.decode(part, job.roster)
    assert upload.encode() == part, "the upload is not canonical"
    assert (upload.id, upload.party) == (id, party), "an upload to another sum"
    public = (spine_hash, job.plan.hash, 0)
    assert (upload.spine_hash, upload.bundle_hash, upload.epoch) == public, "other public fields"
    assert upload.h == seen.heads.setdefault(id, upload.h), "H differs inside one cohort"
    upload.verify(job.roster)
    seen.layouts[id] = layout
    seen.vectors.setdefault(id, {})[party] = bytes(upload.y)


def _check_handshake(job: Job, seen: Seen) -> None:
    """Hashes are of what they should be of, and nonces open commitments: no room for anything else."""
    everyone = tuple(p.id for p in job.roster.parties)
    session = ServerSession(
        job.plan.run_id,
        job.roster,
        job.policy,
        everyone,
        job.profile,
        schema_hash=job.plan.hash,
        hybrid=is_hybrid(job.kem),
    )
    request = session.setup_request(0 if job.plan.schemas else 1)
    assert {ad.setup_hash for ad in seen.ads.values()} <= {hashlib.sha256(request).digest()}, "another set-up"
    bundle = KeyBundle(tuple(seen.ads[p] for p in wire_order(tuple(seen.ads))))
    for party, opened in seen.opens.items():
        assert opened.bundle_hash == hashlib.sha256(bundle.encode()).digest(), "another key bundle"
        assert commitment(opened.nonce) == seen.ads[party].commit, "the nonce does not open the commitment"
        signed = tuple(hashlib.sha256(c).digest() for _, c in opened.ciphertexts)
        assert signed == (opened.kem_hashes or ()), "a ciphertext that the node did not sign"
    keys = [k for ad in seen.ads.values() for k in (ad.pk_mask, ad.pk_enc, ad.commit)]
    assert len(set(keys)) == len(keys), "a key or commitment twice"
    assert math.prod(map(len, keys)) == 32 ** len(keys), "a key of another size"
