"""fps1 a second time, for its test vectors: the formulas of fedprofile/secagg/README.md and nothing of fedprofile.

X25519, Ed25519, the AES block and the hashes come from `cryptography` and the standard library. The
rest is written plainly and apart from the package: the encoding, the key schedule with HKDF from HMAC, the
keystream as single AES blocks of a counter (no cipher mode), integers as Python integers. Clarity before speed.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from arithmetic import Segments, sha256, tree_root
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KINDS = ("stats", "update", "role", "score")
PROFILES = ("strict", "none", "resilient")
ZERO = bytes(32)
POLICY = {
    "min_hidden": 2,
    "colluders": 0,
    "min_customers": 256,
    "tasks": [],
    "max_uploads": 400,
    "max_uploads_day": 4000,
    "max_openings": 12,
    "max_points": 4194304,
    "clip": 1.0,
    "rings": [16, 32, 64],
    "recompute": False,
    "accept_differencing": False,
}


def seed(name: str) -> bytes:
    """Every secret of the vectors: no secret of anything else."""
    return sha256(b"fps1 test vector/" + name.encode())


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(domain: str, *parts: bytes) -> bytes:
    data = b"fedprofile/" + domain.encode() + b"\0"
    return sha256(data + b"".join(len(p).to_bytes(8, "big") + p for p in parts))


# -- encoding --------------------------------------------------------------------------------------
def field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def number(value: int, width: int) -> bytes:
    return field(value.to_bytes(width, "big"))


def message(tag: int, *fields: bytes, version: int = 1) -> bytes:
    return b"fps1" + bytes((version, tag)) + b"".join(fields)


def wire_id(party: str) -> bytes:
    return digest("party/1", party.encode())[:16]


def role_id(role: str) -> bytes:
    return digest("role/1", role.encode())[:16] if role else bytes(16)


def ordered(parties: Any) -> list[str]:
    return sorted(parties, key=wire_id)


def party_list(parties: list[str]) -> bytes:
    return number(len(parties), 4) + b"".join(field(wire_id(p)) for p in parties)


def round_id(r: dict[str, Any]) -> bytes:
    opener = wire_id(r["opener"]) if r["opener"] else bytes(16)
    head = field(r["run"]) + number(KINDS.index(r["kind"]), 1) + field(role_id(r["scope"])) + field(opener)
    return head + number(r["t"], 4) + number(r["attempt"], 4)


def layout_hash(segments: Segments) -> bytes:
    return digest(
        "layout/1",
        canonical([[s["name"], s["shape"], s["ring"], s["clip"].hex(), s["scale"].hex()] for s in segments]),
    )


def layout_fields(segments: Segments) -> bytes:
    out = number(len(segments), 4)
    for s in segments:
        out += field(s["name"].encode()) + number(len(s["shape"]), 4)
        out += b"".join(number(n, 4) for n in s["shape"]) + number(s["ring"], 1)
        out += field(struct.pack(">d", s["clip"])) + field(struct.pack(">d", s["scale"]))
    return out


# -- parties and set-up ----------------------------------------------------------------------------
class Member:
    """One party: identity, and what it draws for a set-up (mask key, sealing key, nonce: 32 bytes each)."""

    def __init__(self, name: str, role: str) -> None:
        self.name, self.role, self.identity_seed = name, role, seed(f"identity/{name}")
        self.identity = Ed25519PrivateKey.from_private_bytes(self.identity_seed)
        self.sign_pk = self.identity.public_key().public_bytes_raw()
        self.draws = [seed(f"{what}/{name}") for what in ("mask", "enc", "nonce")]
        self.mask, self.enc = (X25519PrivateKey.from_private_bytes(d) for d in self.draws[:2])
        self.pk_mask, self.pk_enc = (k.public_key().public_bytes_raw() for k in (self.mask, self.enc))
        self.nonce = self.draws[2]

    def sign(self, type: str, body: bytes) -> bytes:
        return field(self.identity.sign(b"fps1/" + type.encode() + b"\0" + body))

    def key_ad(self, run: bytes, request: bytes, **other: bytes) -> bytes:
        """``other`` replaces pk_mask, pk_enc or commit before the signature."""
        keys = {"pk_mask": self.pk_mask, "pk_enc": self.pk_enc, "commit": sha256(self.nonce)} | other
        fields = [run, wire_id(self.name), sha256(request), keys["pk_mask"], keys["pk_enc"], keys["commit"]]
        body = message(2, *map(field, fields))
        return body + self.sign("KeyAd", body)

    def key_open(self, run: bytes, bundle: bytes, nonce: bytes = b"") -> bytes:
        body = message(4, *map(field, [run, wire_id(self.name), nonce or self.nonce, sha256(bundle)]))
        return body + self.sign("KeyOpen", body)

    def upload(self, r: dict[str, Any], h: bytes, y: bytes, audit_head: bytes = ZERO, root: bytes = b"") -> bytes:
        body = message(7, round_id(r), field(wire_id(self.name)), field(h), field(audit_head))
        body += field(r["spine"]) + field(r["bundle"]) + number(r["epoch"], 8) + field(root or tree_root(y))
        return body + self.sign("Upload", body) + field(y)


def roster_json(members: dict[str, Member], owner: str) -> dict[str, Any]:
    parties = [[m.name, m.name, m.role, m.sign_pk.hex()] for m in members.values()]
    return {"version": 1, "previous": "", "label_owner": owner, "parties": parties}


def setup_request(r: dict[str, Any], cohort: list[str], setup: int = 1, base_t: int = 0, **over: Any) -> bytes:
    fields = field(over.get("run", r["run"])) + number(setup, 4) + number(base_t, 4)
    fields += number(PROFILES.index(over.get("profile", "strict")), 1)
    fields += b"".join(field(over.get(k, r[k])) for k in ("roster_hash", "policy_hash", "schema_hash"))
    return message(1, fields, party_list(cohort), number(1, 1) if over.get("hybrid") else b"")


def bundle(tag: int, items: list[bytes]) -> bytes:
    return message(tag, number(len(items), 4), *map(field, items))


def transcript_hash(ads: list[bytes], opens: list[bytes]) -> bytes:
    return digest("fps1/T0", *ads, *opens)


# -- rounds ----------------------------------------------------------------------------------------
def header(r: dict[str, Any], *, attempt: int | None = None, audit_head: bytes | None = None) -> bytes:
    id = round_id(r | ({} if attempt is None else {"attempt": attempt}))
    out = id + party_list(r["cohort"]) + field(tree_root(r["model"])) + field(layout_hash(r["layout"]))
    out += field(r["policy_hash"]) + field(r["audit_head"] if audit_head is None else audit_head)
    return out + field(r["spine"]) + field(r["bundle"]) + number(r["epoch"], 8)


def basis(r: dict[str, Any]) -> bytes:
    return digest("fps1/basis", header(r, attempt=0, audit_head=ZERO))


def round_hash(t0: bytes, r: dict[str, Any]) -> bytes:
    return digest("fps1/round", t0, header(r))


def round_message(r: dict[str, Any]) -> bytes:
    out = field(header(r)) + round_id(r) + party_list(r["cohort"]) + field(r["policy_hash"])
    out += field(r["audit_head"]) + field(r["spine"]) + field(r["bundle"]) + number(r["epoch"], 8)
    return message(6, out, layout_fields(r["layout"]), field(r["model"]))


def masked_sum(r: dict[str, Any], h: bytes, y: bytes) -> bytes:
    return message(8, round_id(r), field(h), field(tree_root(y)), field(y))
