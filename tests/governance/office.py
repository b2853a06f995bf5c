"""A registry's people, with keys that tests know, and a promotion log in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedprofile.governance.approvals import DAY, NEEDED, Approval
from fedprofile.governance.chain import SIGNED_HEAD, START, Head, Record, follow, link
from fedprofile.governance.gates import Finding, Verdict
from fedprofile.governance.heads import LOG
from fedprofile.governance.people import ROOT, People, nobody, person
from fedprofile.governance.promotion import State, replay, step
from fedprofile.secagg.identity import Identity

NOW = 1_800_000_000
YEAR = 365 * 86400
ROLES = {
    "li": ("trainer",),
    "wang": ("validator",),
    "zhao": ("approver",),
    "chen": ("operator",),
    "sun": ("auditor",),
    "qian": ("validator", "approver"),
    "zhou": ("trainer", "validator", "approver", "operator"),
}
A, B, C, REPORT = (64 * digit for digit in "abcf")


def key(who: str) -> Identity:
    return Identity.from_seed(who.encode().ljust(32, b"."))


def verdict(manifest: str, report: str = REPORT, passed: bool = True) -> dict[str, Any]:
    finding = Finding("auc/tier", passed, 0.9 if passed else 0.5, 0.6, "made up")
    return Verdict(passed, (finding,), manifest, report).to_json()


class Office:
    def __init__(self) -> None:
        self.now = NOW
        self.lines: list[bytes] = []
        self.state = State(key(ROOT).sign_pk)
        self.change(nobody(key(ROOT)))
        for who, roles in ROLES.items():
            self.change(self.people.added(person(who, key(who).sign_pk, roles, NOW + YEAR), key(ROOT)))

    @property
    def people(self) -> People:
        assert self.state.people is not None
        return self.state.people

    def change(self, people: People) -> None:
        self.write("people", ROOT, people=people.to_json())

    def revoke(self, who: str) -> None:
        self.change(self.people.revoked(who, self.now, key(ROOT)))

    def write(self, event: str, by: str, signer: str = "", **fields: Any) -> None:
        """The step, if the rules allow it."""
        record = {"event": event, "by": by, "at": self.now, **fields}
        after = step(self.state, record)
        self.state = replace(after, head=self.force(record, signer or by))

    def force(self, record: Record, signer: str) -> Head:
        """The line, whatever the rules say: what someone with a key and the storage can do."""
        line, head = link(LOG, self.state.head, (record,), lambda mark: key(signer).sign(SIGNED_HEAD, mark))
        self.lines.append(line)
        return head

    def gate(self, manifest: str = A, by: str = "wang", **changes: Any) -> None:
        said = verdict(manifest, changes.pop("report", REPORT), changes.pop("passed", True))
        facts = {"version": "", "trainer": key("li").sign_pk.hex(), "verdict": said, "champion": self.state.champion}
        self.write("gate", by, manifest=manifest, **(facts | changes))

    def approval(self, who: str, manifest: str = A, role: Any = None, signer: str = "", **changes: Any) -> Approval:
        """Signed as it stands; ``changes`` are made before the signature."""
        known = self.people.get(who) or self.people.get("qian")
        assert known is not None
        role = role or next(r for r in known.roles if r in NEEDED)
        about, days = (self.state.registry, manifest, REPORT), (self.now, self.now + 14 * DAY)
        return replace(Approval(*about, who, role, "approve", *days), **changes).signed(key(signer or who))

    def approve(self, who: str, manifest: str = A, **changes: Any) -> None:
        given = self.approval(who, manifest, **changes)
        self.write("approve", who, approval=given.to_json())

    def smuggle(self, *approvals: Approval, manifest: str = A) -> None:
        """Approvals that no rule has looked at on their way into the log."""
        release = self.state.releases[manifest]
        held = {**self.state.releases, manifest: replace(release, approvals=(*release.approvals, *approvals))}
        self.state = replace(self.state, releases=held)

    def both(self, manifest: str = A) -> None:
        self.approve("wang", manifest)
        self.approve("zhao", manifest)

    def promote(self, manifest: str = A, by: str = "chen") -> None:
        self.write("promote", by, manifest=manifest)

    def champion(self, manifest: str) -> None:
        """The whole way."""
        self.gate(manifest)
        self.both(manifest)
        self.promote(manifest)

    def replayed(self) -> State:
        """What a reader makes of the log's bytes."""
        held, head = [], START
        for raw in self.lines:
            head, record = follow(LOG, head, raw, "log")
            held.append((head, record))
        return replay(held, key(ROOT).sign_pk)
