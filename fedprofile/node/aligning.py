"""A node's part in alignment: which customers it may bring, letters to one other node, the one spine of a run.

Keys, shuffle and padding are derived again from the node's secret, so another process of the node may answer each
message; what was agreed lies in the run's state in the home.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fedprofile.alignment.hashing import row_order
from fedprofile.alignment.letters import Letter, LetterType, SpineFact
from fedprofile.alignment.psi import Ids, Partner, Positions, read_views
from fedprofile.alignment.suites import SUITES, Suite
from fedprofile.node.consent import permit_of
from fedprofile.node.home import NodeHome
from fedprofile.node.journal import Journal
from fedprofile.node.randomness import ByteSource, keystream_source
from fedprofile.node.snapshot import held_table
from fedprofile.node.source import read_ids
from fedprofile.node.spine import read_simulated_spine, write_spine
from fedprofile.privacy.sealing import seal, unseal
from fedprofile.secagg.client import ClientSession
from fedprofile.secagg.codes import refusal, remote
from fedprofile.secagg.identity import Identity
from fedprofile.types import Policy, Roster, RunPlan, Spine, digest

_MATCH, _ASKED = "match.safetensors", "asked"


@dataclass
class Aligning:
    """What both sides of an alignment share at a node.

    Raises RemoteProtocolError("align_mismatch") under a plan that aligns in another way.
    """

    home: NodeHome
    identity: Identity
    roster: Roster
    policy: Policy
    journal: Journal = field(repr=False)
    plan: RunPlan = field(repr=False)
    session: ClientSession

    @property
    def me(self) -> str:
        return self.home.config.party

    modes: ClassVar[tuple[str, ...]] = ("psi", "plain", "simulated")
    """The values of ``align`` that this side serves: asked in another's words, a node would tell more than agreed."""

    def __post_init__(self) -> None:
        if self.plan.align not in self.modes:
            raise remote("align_mismatch", "the approved plan aligns in another way")

    @property
    def suite(self) -> Suite:
        """Raises RemoteProtocolError("align_mismatch") where the plan compares no ids."""
        if self.plan.align not in SUITES:
            raise remote("align_mismatch", "a simulated alignment compares nothing")
        return SUITES[self.plan.align]

    def rand(self) -> ByteSource:
        """Keys, shuffle and padding of this run: the same whenever this node aligns in it."""
        return keystream_source(self.home.derive("alignment", self.plan.hash))

    def ids(self) -> tuple[Positions, Ids]:
        """Positions (n,) in the table of the rows that may be aligned, and their ids (n,)."""
        return read_ids(held_table(self.home), permit_of(self.home, self.plan.purpose, self.roster.label_owner))

    def write(self, to: str, type_: LetterType, size: int, body: bytes) -> bytes:
        """A signed letter, sealed to its receiver."""
        parties = self.roster.party(self.me), self.roster.party(to)
        letter = Letter(type_, self.suite.number, self.plan.hash, *parties, size, body)
        return seal(letter.encode(self.identity), self.session.peer_seal_key(to), self.plan.hash, to, "alignment")

    def open(self, sender: str, type_: LetterType, sealed: bytes) -> Letter:
        """The letter that was due. Raises RemoteProtocolError for any other."""
        plain = unseal(sealed, self.session.own_seal_key(), self.plan.hash, self.me, "alignment")
        parties = self.roster.party(sender), self.roster.party(self.me)
        return Letter.decode(plain, type_, self.suite.number, self.plan.hash, *parties)

    def pin(self, fact: SpineFact) -> None:
        """Hold on to the first spine of the run, for as long as the journal lasts.

        Raises RemoteProtocolError("spine_changed") for another one.
        """
        held = self.pinned()
        if held is None:
            self.journal.append({"event": "spine", "plan": self.plan.hash.hex(), **fact.to_body()})
        elif held != fact:
            raise remote("spine_changed")

    def pinned(self) -> SpineFact | None:
        """The spine that this node holds on to, None before there is one."""
        for e in self.journal:
            if e["event"] == "spine" and e["plan"] == self.plan.hash.hex():
                return SpineFact(e["size"], bytes.fromhex(e["hash"]))
        return None

    def book(self, event: str, party: str, body: bytes, **numbers: int) -> None:
        """Book another's letter. Otherwise it could ask again and again, each time about as many as it may at once.

        Raises PolicyRefusal("letter_changed") where that party wrote another one of its kind in this run.
        """
        mark = digest("letter/1", body).hex()
        entry = {"event": event, "plan": self.plan.hash.hex(), "party": party, "letter": mark, **numbers}
        held = [e for e in self.journal if all(e.get(k) == entry[k] for k in ("event", "plan", "party"))]
        if not held:
            self.journal.append(entry)
        elif held[0]["letter"] != mark:
            raise refusal("letter_changed", f"party {party!r}")

    def adopt(self) -> Spine:
        """Take the spine that the simulation left in the home into the run's state."""
        if self.plan.align != "simulated":
            raise remote("align_mismatch", "this run compares ids")
        spine = read_simulated_spine(self.home)
        write_spine(self.home, spine)
        return spine


def fingerprint(ids: Ids) -> bytes:
    """Recognises the same ids in the same order."""
    return digest("aligned-ids/1", *(str(i).encode() for i in ids))


class PartnerAligning(Aligning):
    """A partner's answers; the label owner's are in its own room."""

    @property
    def owner(self) -> str:
        return self.roster.label_owner

    def points(self) -> bytes:
        """This node's customers, blinded, to the label owner."""
        _, ids = self.ids()
        side = self._side(ids)
        self.home.write(_ASKED, fingerprint(ids))
        self.journal.append({"event": "asked", "plan": self.plan.hash.hex(), "points": side.size})
        return self.write(self.owner, "points", side.size, side.points())

    def match(self, fact: SpineFact, sealed: bytes) -> bytes:
        """Find the own customers in the spine, and claim them."""
        rows, ids = self.ids()
        if self.home.read(_ASKED) != fingerprint(ids):
            raise remote("spine_changed", "table or consent changed after this node had asked")
        side, letter = self._side(ids), self.open(self.owner, "answer", sealed)
        if letter.size != side.size:
            raise remote("bad_size", "an answer to more or fewer points than were asked about")
        found = side.match(letter.body, fact.size, fact.hash)
        self.pin(fact)
        order = row_order(ids[found.rows])
        self.home.write_arrays(_MATCH, {"rows": rows[found.rows][order], "slots": found.slots[order]})
        self.journal.append({"event": "claimed", "plan": self.plan.hash.hex(), "customers": len(order)})
        return self.write(self.owner, "claims", fact.size, found.claims)

    def store(self, sealed: bytes) -> None:
        """The last letter: of which of its customers enough other nodes know."""
        found, fact = self.home.read_arrays(_MATCH), self.pinned()
        if found is None or fact is None:
            raise remote("no_spine", "views before the spine")
        letter = self.open(self.owner, "views", sealed)
        if letter.size != fact.size:
            raise remote("bad_size", "views of another spine")
        rows, slots = found["rows"], found["slots"]
        write_spine(self.home, Spine(fact.size, rows, slots, read_views(letter.body, fact.size)[slots], fact.hash))

    def store_simulated(self, fact: SpineFact) -> None:
        """Raises RemoteProtocolError("wrong_spine") unless the label owner signed the spine that this home holds."""
        spine = self.adopt()
        if (spine.size, spine.hash) != (fact.size, fact.hash):
            raise remote("wrong_spine")
        self.pin(fact)

    def _side(self, ids: Ids) -> Partner:
        return Partner(ids, self.me, self.plan.hash, self.suite, self.rand())
