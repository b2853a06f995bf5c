"""The rules of a registry as one pure step: from a state and the next line of its log to the next state, or a refusal.

Whoever writes takes the step first and then swaps the head; whoever reads takes every step again, with the time that
the line says. So a line that breaks a rule is found by any reader, whoever signed it: an operator alone cannot log a
promotion that two others did not approve.

Events: ``people`` (by the root key), ``gate`` (a validator), ``approve`` (a validator or approver), ``promote``,
``rollback``, ``retire``, ``shadow`` (an operator). Every record has ``event``, ``by``, ``at`` (UTC seconds). A gate may
hold, ``because``, the signed recommendation that the training of its bundle followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fedprofile.errors import DataError, FedprofileError, ProtocolError, UsageError
from fedprofile.governance.advice import Advice
from fedprofile.governance.approvals import NEEDED, Approval, Count, count
from fedprofile.governance.chain import SIGNED_HEAD, START, Head, Record
from fedprofile.governance.gates import Verdict
from fedprofile.governance.heads import LOG
from fedprofile.governance.people import ROOT, People, Person, Role
from fedprofile.secagg.identity import verify

DECIDERS: dict[str, tuple[Role, ...]] = {
    "gate": ("validator",),
    "approve": NEEDED,
    "promote": ("operator",),
    "rollback": ("operator",),
    "retire": ("operator",),
    "shadow": ("operator",),
}
"""Who may write which event; ``people`` is the root's alone."""


class Refused(UsageError):
    """A step that the rules do not allow; ``reasons`` has one sentence for each."""

    def __init__(self, what: str, *reasons: str, mend: str = "") -> None:
        self.reasons = reasons
        super().__init__(": ".join([what, "; ".join(reasons)] if reasons else [what]), mend)


@dataclass(frozen=True)
class Release:
    """A version as the log knows it: the last gate over it, and every approval ever given.

    ``version`` is its number in MLflow, empty for a folder; ``champion`` the one that the gate compared it with.
    ``trainer``: hex public key under the bundle.
    """

    manifest: str
    version: str
    trainer: str
    verdict: Verdict
    champion: str | None
    approvals: tuple[Approval, ...] = ()
    retired: bool = False

    @property
    def report(self) -> str:
        return self.verdict.report

    @property
    def passed(self) -> bool:
        return self.verdict.passed

    @property
    def name(self) -> str:
        return f"version {self.version}" if self.version else self.manifest[:12]


@dataclass(frozen=True)
class State:
    """What the log says up to ``head``; manifests are hex. ``champions``: all ever, in order, each as often as it was.

    ``challenger``: the last version gated that was never champion. ``told``: the last ``at``.
    """

    root_pk: bytes
    head: Head = START
    people: People | None = None
    releases: Mapping[str, Release] = field(default_factory=dict)
    champions: tuple[str, ...] = ()
    challenger: str | None = None
    shadow: str | None = None
    told: int = 0

    @property
    def champion(self) -> str | None:
        return self.champions[-1] if self.champions else None

    @property
    def registry(self) -> str:
        return self.root_pk.hex()

    @property
    def staff(self) -> People:
        """Raises Refused where the log has not begun."""
        if self.people is None:
            raise Refused("this registry has no people yet", mend="Run `fedprofile registry init`.")
        return self.people

    def stage(self, manifest: str) -> str:
        """Where a version is in its life, in one word or two."""
        if manifest == self.champion:
            return "champion"
        if self.release(manifest).retired:
            return "retired"
        if manifest == self.shadow:
            return "shadow"
        if manifest in self.champions:
            return "former champion"
        return "challenger" if manifest == self.challenger else "gated"

    def release(self, manifest: str) -> Release:
        """Raises Refused for a version that no gate has seen."""
        if manifest not in self.releases:
            mend = "Run `fedprofile registry gate` first."
            raise Refused(f"{manifest[:12]} is not known here", "no gate has judged it", mend=mend)
        return self.releases[manifest]


def replay(lines: Iterable[tuple[Head, Record]], root_pk: bytes) -> State:
    """Take every step of a log again. Raises DataError naming the line that breaks a rule or a signature."""
    state = State(root_pk)
    for head, record in lines:
        try:
            state = replace(step(state, record), head=head)
            verify(_signer(state, record), SIGNED_HEAD, head.hash, head.signature)
        except ProtocolError:
            raise _broken(head, "not signed by whom it names") from None
        except FedprofileError as error:
            raise _broken(head, error.what) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _broken(head, "not a line of a promotion log") from None
    return state


def step(state: State, record: Record) -> State:
    """The state after ``record``; its head is still the old one. Raises Refused or UsageError."""
    event, at = record["event"], record["at"]
    if at < state.told:
        raise Refused("the log already holds later lines", "this clock is behind", mend="Set this machine's clock.")
    if event == "people":
        before = state.people
        people = People.from_json(record["people"])
        if record["by"] != ROOT:
            raise Refused("only the root key changes people")
        return replace(state, people=people.verified(state.root_pk, before), told=at)
    person = state.staff.allow(record["by"], DECIDERS[event], at)
    return replace(_STEPS[event](state, record, person), told=at)


def judge(state: State, manifest: str, now: int) -> tuple[Release, Count]:
    """The approvals of a release as they stand, without its gates."""
    release, people = state.release(manifest), state.staff
    trainer = people.holder(bytes.fromhex(release.trainer))
    about = (state.registry, manifest, release.report)
    return release, count(release.approvals, about, people, trainer.id if trainer else "", now)


def objections(state: State, manifest: str, now: int) -> tuple[str, ...]:
    """Why this version may not become champion now; none means that it may."""
    release, approvals = judge(state, manifest, now)
    trainer = state.staff.holder(bytes.fromhex(release.trainer))
    why = []
    if release.retired:
        why.append("it is retired")
    if manifest == state.champion:
        why.append("it is the champion")
    if not release.passed:
        why.append("its gates did not pass")
    if release.champion != state.champion:
        why.append("the champion changed since its gates ran")
    if trainer is None or "trainer" not in trainer.roles or trainer.revoked is not None:
        why.append("it is not signed by a registered trainer who is not revoked")
    return (*why, *approvals.reasons)


def _gate(state: State, record: Record, person: Person) -> State:
    champion, trainer = record["champion"], bytes.fromhex(record["trainer"])
    verdict = Verdict.from_json(record["verdict"])
    manifest = verdict.manifest
    if manifest != record["manifest"] or (verdict.passed and verdict.failed):
        raise Refused("the verdict is of another bundle, or passes what failed")
    holder = state.staff.holder(trainer)
    if holder is None or "trainer" not in holder.roles or not holder.is_live(record["at"]):
        mend = "The holder of the root key adds the trainer: fedprofile registry people add."
        raise Refused("the bundle is not signed by a registered trainer", mend=mend)
    if holder.id == person.id:
        raise Refused("the trainer does not judge the own model")
    if champion != state.champion:
        raise Refused("the gates compared it with another than today's champion", mend="Run them again.")
    if not all(len(bytes.fromhex(mark)) == 32 for mark in (manifest, verdict.report)):
        raise ValueError("hash")
    before = state.releases.get(manifest)
    if before and before.retired:
        raise Refused(f"{before.name} is retired")
    version = str(record["version"])
    if record.get("because") is not None:
        why = Advice.from_json(record["because"]).refusal(state.staff, state.registry, champion, record["at"])
        if why:
            mend = "Judge it without: fedprofile registry gate."
            raise Refused("the recommendation that it follows does not count", why, mend=mend)
    if any(r.version == version and r.manifest != manifest for r in state.releases.values() if version):
        raise Refused(f"version {version} is another bundle in this log")
    kept = before.approvals if before else ()
    release = Release(manifest, version, record["trainer"], verdict, champion, kept)
    challenger = state.challenger if manifest in state.champions else manifest
    return replace(_with(state, release), challenger=challenger)


def _approve(state: State, record: Record, person: Person) -> State:
    given = Approval.from_json(record["approval"])
    release = state.release(given.manifest)
    if given.person != person.id or (given.registry, given.report) != (state.registry, release.report):
        raise Refused("this approval is not of the last gate report here, or not of who hands it in")
    holder = state.staff.holder(bytes.fromhex(release.trainer))
    if holder and holder.id == person.id:
        raise Refused("the trainer does not approve the own model")
    if why := given.refusal(state.staff, record["at"]):
        raise Refused("this approval would not count", why)
    return _with(state, replace(release, approvals=(*release.approvals, given)))


def _promote(state: State, record: Record, person: Person) -> State:
    manifest = record["manifest"]
    if why := objections(state, manifest, record["at"]):
        raise Refused(f"{state.release(manifest).name} is not promoted", *why)
    return replace(_without(state, manifest), champions=(*state.champions, manifest))


def _rollback(state: State, record: Record, person: Person) -> State:
    manifest = record["manifest"]
    if manifest not in state.champions[:-1] or manifest == state.champion:
        raise Refused("one can only go back to an earlier champion", mend="See them: fedprofile registry history.")
    if state.release(manifest).retired:
        raise Refused(f"{state.release(manifest).name} is retired")
    _reason(record)
    return replace(_without(state, manifest), champions=(*state.champions, manifest))


def _retire(state: State, record: Record, person: Person) -> State:
    release = state.release(record["manifest"])
    if release.manifest == state.champion:
        raise Refused(f"{release.name} is the champion", mend="Promote another, or roll back, first.")
    if release.retired:
        raise Refused(f"{release.name} is retired already")
    _reason(record)
    return _without(_with(state, replace(release, retired=True)), release.manifest)


def _shadow(state: State, record: Record, person: Person) -> State:
    manifest = record["manifest"]
    if manifest is not None:
        release = state.release(manifest)
        if release.retired or manifest == state.champion:
            raise Refused(f"{release.name} is the champion, or retired")
    return replace(state, shadow=manifest)


_STEPS: dict[str, Callable[[State, Record, Person], State]] = {
    "gate": _gate,
    "approve": _approve,
    "promote": _promote,
    "rollback": _rollback,
    "retire": _retire,
    "shadow": _shadow,
}


def _with(state: State, release: Release) -> State:
    return replace(state, releases={**state.releases, release.manifest: release})


def _without(state: State, manifest: str) -> State:
    """No challenger or shadow that is ``manifest``."""
    challenger = None if state.challenger == manifest else state.challenger
    return replace(state, challenger=challenger, shadow=None if state.shadow == manifest else state.shadow)


def _reason(record: Mapping[str, Any]) -> None:
    if not str(record["reason"]).strip():
        raise Refused("no reason is given", mend="Say why: --reason.")


def _signer(state: State, record: Record) -> bytes:
    person = None if record["by"] == ROOT else state.staff.get(record["by"])
    return person.sign_pk if person else state.root_pk


def _broken(head: Head, what: str) -> DataError:
    return DataError(f"{LOG} log, line {head.seq}", what, "Restore the log from the backup; do not edit it.")
