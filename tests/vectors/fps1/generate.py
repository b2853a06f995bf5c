"""Writes the test vectors of fps1: ``python tests/vectors/fps1/generate.py [FOLDER]``. Equal bytes on every run.

Run it after a change of a message, of ``reference.POLICY`` (every field of a Policy, as in its JSON) or of a formula.

Nothing here imports fedprofile: expected values come from ``reference.py`` and ``arithmetic.py``, expected errors from ``scenarios.py``.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import arithmetic as calc
import reference as ref
import resilient
import scenarios
import scenarios_resilient

PROVENANCE = {
    "protocol": "fps1, version 1, strict profile; resilient in the files of that name",
    "written_by": "tests/vectors/fps1/generate.py",
    "written_with": "Python 3.11, cryptography 50.0.2; the bytes do not depend on either",
    "independent": [
        "encoding of every message, hashes of roster, policy, layout and round, T0, HKDF (from HMAC), ratchet, k_ij",
        "keystream (single AES-256 blocks of a counter), quantised integers, masks and sums (Python integers)",
        "graph, shares (interpolated), their sealing, checks and every message of the resilient profile",
        "the expected error of every bad_* file (written by hand)",
    ],
    "shared_with_the_package": "X25519, Ed25519 and the AES block and AES-GCM of `cryptography`; SHA-256 and HMAC of Python",
}
OWNER = "bank"
MEMBERS = {OWNER: "bank", "tax-1": "tax", "tax-2": "tax", "tax-3": "tax"}
RUN = ref.seed("run")


def segment(name: str, shape: list[int], ring: int, clip: float, scale: float) -> dict[str, Any]:
    return {"name": name, "shape": shape, "ring": ring, "clip": clip, "scale": scale}


MIXED = [
    segment("w", [3, 2], 16, 1.0, 2.0**-10),
    segment("meta", [2], 64, 2.0**40, 1.0),
    segment("b", [3], 32, 0.75, 2.0**-20),
    segment("v", [], 16, 1.0, 2.0**-10),
]
DELTAS = [s for s in MIXED if s["ring"] != 64]
SCORES = [segment("scores", [5, 2], 16, 8.0, 1 / 16)]
COUNTS = [segment("count", [4], 32, 1000.0, 1.0)]


class Vectors:
    """The federation of the vectors after its set-up: messages, T0, and the rounds that follow."""

    def __init__(self) -> None:
        self.members = {name: ref.Member(name, role) for name, role in MEMBERS.items()}
        self.order = ref.ordered(MEMBERS)
        self.roster = ref.roster_json(self.members, OWNER)
        self.base = {
            "run": RUN,
            "scope": "",
            "attempt": 0,
            "opener": "",
            "cohort": self.order,
            "layout": MIXED,
            "model": b"model",
            "policy_hash": ref.digest("policy/1", ref.canonical(ref.POLICY)),
            "roster_hash": ref.digest("roster/1", ref.canonical(self.roster)),
            "schema_hash": ref.seed("plan"),
            "audit_head": ref.ZERO,
            "spine": ref.ZERO,
            "bundle": ref.ZERO,
            "epoch": 0,
        }
        self.request = ref.setup_request(self.base, self.order)
        self.ads = [self.members[p].key_ad(RUN, self.request) for p in self.order]
        self.key_bundle = ref.bundle(3, self.ads)
        self.opens = [self.members[p].key_open(RUN, self.key_bundle) for p in self.order]
        self.open_bundle = ref.bundle(5, self.opens)
        self.t0 = ref.transcript_hash(self.ads, self.opens)
        hashes = {"spine": ref.seed("spine"), "bundle": ref.seed("bundle"), "audit_head": ref.seed("audit")}
        tax, score = [p for p in self.order if p != OWNER], {"kind": "score", "opener": OWNER, "layout": SCORES}
        self.rounds = {
            "stats": self.base | {"kind": "stats", "scope": "tax", "t": 0, "cohort": tax, "layout": COUNTS},
            "update": self.base | {"kind": "update", "t": 3},
            "update-retry": self.base | {"kind": "update", "t": 3, "attempt": 2, "audit_head": ref.seed("head")},
            "role": self.base | {"kind": "role", "scope": "tax", "t": 3, "cohort": tax, "layout": DELTAS} | hashes,
            "score": self.base | score | {"t": 7, "model": b""} | hashes | {"epoch": 20000},
        }

    def pair(self, a: str, b: str, t: int) -> bytes:
        return calc.pair_key(self.t0, self.members[a].mask, self.members[b].pk_mask, t)

    def pads(self, me: str, name: str) -> list[tuple[bytes, int]]:
        r = self.rounds[name]
        info = b"mask" + ref.round_hash(self.t0, r)
        peers = [p for p in r["cohort"] if p != me]
        sign = {p: 1 if ref.wire_id(me) < ref.wire_id(p) else -1 for p in peers}
        return [(calc.hkdf_expand(self.pair(me, p, r["t"]), info), sign[p]) for p in peers]

    def contribution(self, name: str, party: str) -> dict[str, Any]:
        """Values, integers, masked vector and Upload of one party; a retry repeats the integers."""
        r, first = self.rounds[name], name.removesuffix("-retry")
        values = {s["name"]: _values(f"{first}/{party}/{s['name']}", s) for s in r["layout"]}
        dither = ref.seed(f"dither/{first}/{party}")
        integers = calc.quantise(values, r["layout"], dither)
        y = calc.to_bytes(calc.add_pads(calc.vector(integers, r["layout"]), self.pads(party, name)))
        upload = self.members[party].upload(r, ref.round_hash(self.t0, r), y, ref.seed(f"head/{party}"))
        return {"dither": dither, "values": values, "integers": integers, "y": y, "upload": upload}

    def setup_file(self) -> dict[str, Any]:
        parties = {}
        for p, m in self.members.items():
            parties[p] = {"role": m.role, "wire_id": ref.wire_id(p), "identity_seed": m.identity_seed}
            parties[p] |= {"sign_pk": m.sign_pk, "draws": m.draws, "pk_mask": m.pk_mask, "pk_enc": m.pk_enc}
        messages = {"SetupReq": self.request, "KeyBundle": self.key_bundle, "OpenBundle": self.open_bundle}
        for p, ad, opened in zip(self.order, self.ads, self.opens, strict=True):
            messages |= {f"KeyAd/{p}": ad, f"KeyOpen/{p}": opened}
        pairs = [(a, b) for i, a in enumerate(self.order) for b in self.order[i + 1 :]]
        keys = {f"{a} {b}": {str(t): self.pair(a, b, t) for t in (0, 1, 2, 7)} for a, b in pairs}
        hashes = {k: self.base[k] for k in ("roster_hash", "policy_hash", "schema_hash")}
        head = {"run": RUN, "roster": self.roster, "policy": ref.POLICY, "hashes": hashes, "wire_order": self.order}
        return head | {"parties": parties, "messages": messages, "T0": self.t0, "pair_keys": keys}

    def round_file(self, name: str) -> dict[str, Any]:
        r = self.rounds[name]
        h, sums = ref.round_hash(self.t0, r), calc.add_pads(calc.vector(_zeros(r["layout"]), r["layout"]), [])
        senders = [p for p in r["cohort"] if p != r["opener"]]
        given = {p: self.contribution(name, p) for p in senders}
        sums = [(ring, 0) for ring, _ in sums]
        for c in given.values():
            y = _integers(c["y"], r["layout"])
            sums = [(ring, (a + b) % (1 << ring)) for (ring, a), b in zip(sums, y, strict=True)]
        out = {"fields": {k: v for k, v in r.items() if k not in ("roster_hash", "schema_hash")}, "H": h}
        out |= {"basis": ref.basis(r), "layout_hash": ref.layout_hash(r["layout"]), "Round": ref.round_message(r)}
        out |= {"k_ij": {p: {q: list(k) for q, k in self._named_pads(p, name)} for p in r["cohort"]}}
        out |= {"keystream_64": self._streams(name), "parties": given}
        if r["opener"]:
            out["MaskedSum"] = ref.masked_sum(r, h, calc.to_bytes(sums))
            sums = calc.add_pads(sums, self.pads(r["opener"], name))
        return out | {"opened": _opened(sums, r["layout"])}

    def _named_pads(self, me: str, name: str) -> list[tuple[str, tuple[bytes, int]]]:
        return list(zip([p for p in self.rounds[name]["cohort"] if p != me], self.pads(me, name), strict=True))

    def _streams(self, name: str) -> list[dict[str, Any]]:
        """The first 64 bytes of one pair's keystream, by ring and segment of 2^19 elements."""
        key, _ = self.pads(self.rounds[name]["cohort"][0], name)[0]
        places = [(ring, s) for ring in (16, 32, 64) for s in (0, 1, 2, 1 << 33)]
        return [{"key": key, "ring": r, "segment": s, "bytes": calc.keystream(key, r, s, 64)} for r, s in places]


class Resilient:
    """A federation in the resilient profile: five parties, or 33, for which the graph is a ring."""

    def __init__(self, parties: dict[str, str]) -> None:
        self.members = {name: resilient.Member(name, role) for name, role in parties.items()}
        self.order = ref.ordered(parties)
        self.roster = ref.roster_json(self.members, OWNER)
        hashes = {
            "policy_hash": ref.digest("policy/1", ref.canonical(resilient.POLICY)),
            "roster_hash": ref.digest("roster/1", ref.canonical(self.roster)),
            "schema_hash": ref.seed("plan"),
        }
        zero = dict.fromkeys(("audit_head", "spine", "bundle"), ref.ZERO)
        self.base = {"run": RUN, "kind": "update", "scope": "", "t": 2, "attempt": 0, "opener": "", "epoch": 0}
        self.base |= {"cohort": self.order, "layout": MIXED, "model": b"model"} | hashes | zero
        self.request = ref.setup_request(self.base, self.order, profile="resilient")
        self.ads = [self.members[p].key_ad(RUN, self.request) for p in self.order]
        self.key_bundle = ref.bundle(3, self.ads)
        self.opens = [self.members[p].key_open(RUN, self.key_bundle) for p in self.order]
        self.open_bundle = ref.bundle(5, self.opens)
        self.t0 = ref.transcript_hash(self.ads, self.opens)
        self.circle = resilient.Circle(self.t0, self.order)

    def parts(self, r: dict[str, Any]) -> dict[str, resilient.Part]:
        return {p: resilient.Part(self.members, self.t0, self.circle, r, p) for p in self.order}

    def setup_file(self) -> dict[str, Any]:
        messages = {"SetupReq": self.request, "KeyBundle": self.key_bundle, "OpenBundle": self.open_bundle}
        for p, ad, opened in zip(self.order, self.ads, self.opens, strict=True):
            messages |= {f"KeyAd/{p}": ad, f"KeyOpen/{p}": opened}
        known = {p: {"identity_seed": m.identity_seed, "draws": m.draws} for p, m in self.members.items()}
        graph = {"degree": self.circle.degree, "threshold": self.circle.threshold, "ring": self.circle.ring}
        graph["quorum"] = resilient.quorum(len(self.order))
        head = {"run": RUN, "roster": self.roster, "policy": resilient.POLICY, "schema_hash": self.base["schema_hash"]}
        return head | {"parties": known, "messages": messages, "T0": self.t0, "graph": graph}

    def given(self, r: dict[str, Any], part: resilient.Part) -> dict[str, Any]:
        """Values, integers, masked vector and ResilientUpload of one member; a retry repeats the integers."""
        values = {s["name"]: _values(f"resilient/{part.name}/{s['name']}", s) for s in r["layout"]}
        dither = ref.seed(f"dither/resilient/{part.name}")
        integers = calc.quantise(values, r["layout"], dither)
        y = calc.to_bytes(calc.add_pads(calc.vector(integers, r["layout"]), part.signed_pads()))
        upload = part.upload(y, ref.seed(f"head/{part.name}"))
        return {"dither": dither, "values": values, "integers": integers, "y": y, "upload": upload}

    def opening(self, r: dict[str, Any], lost: list[str]) -> dict[str, Any]:
        """Everything of one round that opens without ``lost``, who never upload."""
        h, parts = ref.round_hash(self.t0, r), self.parts(r)
        alive = [p for p in self.order if p not in lost]
        given = {p: self.given(r, parts[p]) for p in alive}
        messages: dict[str, bytes] = {"Round": ref.round_message(r)}
        messages |= {f"ResilientUpload/{p}": given[p].pop("upload") for p in alive}
        agreed = {p: resilient.agree(self.members[p], r, h, alive) for p in alive}
        needed = len(alive) if not lost and self.circle.complete else resilient.quorum(len(self.order))
        if lost or not self.circle.complete:
            messages |= {"Survivors": resilient.survivors(r, h, alive)} | {f"Agree/{p}": agreed[p] for p in alive}
        signed = {p: agreed[p][-64:] for p in alive[:needed]}
        for p in alive:
            owners = [o for o in self.circle.holders(p) if o in alive]
            sealed = {o: parts[o].seal(p) for o in owners if p not in self.circle.derived(o)}
            messages[f"Open/{p}"] = resilient.opening(r, h, alive, signed, sealed)
            shares = {o: parts[o].revealed(p, alive) for o in owners}
            messages[f"Reveal/{p}"] = resilient.reveal(self.members[p], r, h, alive, shares)
        total = [(ring, 0) for ring, _ in calc.vector(_zeros(r["layout"]), r["layout"])]
        for c in given.values():
            entries = calc.vector(c["integers"], r["layout"])
            total = [(ring, (a + b) % (1 << ring)) for (ring, a), (_, b) in zip(total, entries, strict=True)]
        known = {p: self.secrets(parts[p]) for p in alive}
        out = {"fields": {k: r[k] for k in ("kind", "t", "attempt", "cohort", "layout")}, "H": h, "survivors": alive}
        return out | {"parties": given, "secrets": known, "messages": messages, "opened": _opened(total, r["layout"])}

    def secrets(self, part: resilient.Part) -> dict[str, Any]:
        shares = {p: [v.to_bytes(resilient.SHARE, "big") for v in values] for p, values in part.shares.items()}
        out = {"share_keys": {p: part.share_key(p) for p in self.circle.holders(part.name)}, "seed": part.seed}
        out |= {"self_key": part.self_key, "k_ij": part.pads, "checks": part.checks, "shares": shares}
        return out | {"derived": self.circle.derived(part.name)}


def ring_file(ring: Resilient) -> dict[str, Any]:
    """A ring of 33 without one member: every message by its hash, those of one member in full."""
    lost, shown = ring.order[7], ring.order[0]
    whole = ring.opening(ring.base | {"layout": [MIXED[2]]}, [lost])
    hashes = {name: calc.sha256(data) for name, data in whole["messages"].items()}
    shared = {"Round", "Survivors"}
    full = {n: d for n, d in whole["messages"].items() if n in shared or n.endswith(f"/{shown}")}
    parties = {p: {k: c[k] for k in ("dither", "values", "integers")} for p, c in whole["parties"].items()}
    return whole | {"parties": parties, "secrets": {shown: whole["secrets"][shown]}, "messages": full, "sha256": hashes}


def _values(name: str, s: dict[str, Any]) -> list[float]:
    """Numbers up to a little beyond the clip, from SHA-256; exact in binary64."""
    draws = [int.from_bytes(ref.seed(f"{name}/{i}")[:4], "big") for i in range(calc.size(s))]
    return [(d - 2**31) / 2**31 * s["clip"] * 1.0625 for d in draws]


def _zeros(layout: calc.Segments) -> dict[str, list[int]]:
    return {s["name"]: [0] * calc.size(s) for s in layout}


def _integers(y: bytes, layout: calc.Segments) -> list[int]:
    out, at = [], 0
    for ring, _ in calc.vector(_zeros(layout), layout):
        out.append(int.from_bytes(y[at : at + ring // 8], "little"))
        at += ring // 8
    return out


def _opened(sums: list[tuple[int, int]], layout: calc.Segments) -> dict[str, Any]:
    """Signed sums and their float64 values, big-endian bytes in hex."""
    parts = {ring: iter([calc.signed(w, v) for w, v in sums if w == ring]) for ring in (64, 32, 16)}
    steps = {s["name"]: [next(parts[s["ring"]]) for _ in range(calc.size(s))] for s in layout}
    scales = {s["name"]: s["scale"] for s in layout}
    floats = {n: [struct.pack(">d", float(v) * scales[n]) for v in values] for n, values in steps.items()}
    return {"integers": steps, "float64": floats}


def long_file() -> dict[str, Any]:
    """A pad that crosses a segment: SHA-256 of 2^19 + 5 elements of each ring."""
    key, count = ref.seed("long"), calc.SEGMENT + 5
    pads = {}
    for ring in (16, 32, 64):
        width = ring // 8
        stream = calc.keystream(key, ring, 0, calc.SEGMENT * width) + calc.keystream(key, ring, 1, 5 * width)
        pads[str(ring)] = calc.sha256(stream)
    root = calc.tree_root(calc.keystream(key, 64, 0, calc.SEGMENT * 8))
    return {"key": key, "elements": count, "sha256_of_pad": pads, "tree_root_of_first_segment_64": root}


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def main(folder: Path) -> None:
    vectors = Vectors()
    files = {"setup": vectors.setup_file(), "long": long_file()}
    files |= {f"round_{name}": vectors.round_file(name) for name in vectors.rounds}
    five, ring = (
        Resilient(MEMBERS | {"tax-4": "tax"}),
        Resilient({OWNER: OWNER} | {f"tax-{i}": "tax" for i in range(1, 33)}),
    )
    files |= {"resilient_setup": five.setup_file(), "resilient_ring-setup": ring.setup_file()}
    files["resilient_full"] = five.opening(five.base | {"t": 1}, [])
    files |= {"resilient_dropped": five.opening(five.base, ["tax-2"]), "resilient_ring": ring_file(ring)}
    files = {name: {"provenance": PROVENANCE} | body for name, body in files.items()}
    origin = "as in setup.json; the error was written by hand"
    for name, scenario in scenarios.collect(vectors).items():
        files[f"bad_{name}"] = {"provenance": origin} | scenario
    for name, scenario in scenarios_resilient.collect(five).items():
        files[f"bad_{name}"] = {
            "provenance": origin.replace("setup", "resilient_setup"),
            "profile": "resilient",
        } | scenario
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        text = json.dumps(body, indent=1, default=_plain, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
