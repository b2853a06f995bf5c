"""What must hold after every step, whatever the coordinator of ``adversary`` did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from adversary import NODES, OWNER, Seen, Vector, World, demand, looks_open, openings

from fedprofile.secagg.record import score_key


@dataclass
class Verdict:
    """Every opening so far, by (run, kind, scope, t)."""

    world: World
    opened: dict[tuple[bytes, str, str, int], list[Sequence[Seen]]] = field(default_factory=dict)
    scored: dict[str, list[Sequence[Seen]]] = field(default_factory=dict)
    label_owner: list[tuple[tuple[bytes, str, str, int], int]] = field(default_factory=list)

    def check(self) -> None:
        """Judges what the newest uploads open to an adversary that adds."""
        for part, total in openings(self.world):
            rounds = {s.h for s in part}
            if len(rounds) > 1:
                # sums that open alone, and are judged alone, still open when they are added up
                alone = [np.sum([s.y for s in part if s.h == h], axis=0, dtype=np.uint16) for h in rounds]
                demand(all(map(looks_open, alone)), "uploads of several rounds open together")
                continue
            kind = part[0].id.kind
            demand(kind != "score" or OWNER in self.world.corrupt, "the coordinator opened a score sum")
            self._judge(part, total)
        self.world.fresh.clear()

    def label_owner_saw(self, total: Vector, part: Sequence[Seen]) -> None:
        """The label owner opened a masked sum that the coordinator made of ``part``."""
        key, now = part[0].sum, self.world.tick()
        node = self.world.nodes[OWNER]
        again = [seq for k, seq in self.label_owner if k == key and not any(seq < r for r in node.restores)]
        demand(not again, "the label owner opened one sum twice")
        self.label_owner.append((key, now))
        if looks_open(total):
            self._judge(part, total)

    def _judge(self, part: Sequence[Seen], total: Vector) -> None:
        round, corrupt = part[0].round, self.world.corrupt
        demand(all(s.round == round for s in part), "members who saw different rounds open together")
        honest = sorted(set(round.contributors) - corrupt)
        demand(sorted(s.party for s in part) == honest, "a part of a cohort opens")
        # every member, or the opener of a score sum, sees the sum and knows its own part of it
        left = len(round.cohort) - 1 - self.world.policy.colluders
        demand(min(left, len(honest)) >= self.world.policy.min_hidden, "an opened sum hides too few")
        exact = np.sum([s.x for s in part], axis=0, dtype=np.uint16)
        demand(np.array_equal(total, exact), "an opened sum is not the sum of its members' integers")
        present = [i for i, p in enumerate(self.world.names) if p in honest]
        demand(np.flatnonzero(total[:NODES] == 1).tolist() == present, "a replay: an entry other than 1")
        for old in self.opened.setdefault(part[0].sum, []):
            self._judge_again(old, part)
        self.opened[part[0].sum].append(part)
        if key := score_key(round):
            for old in self.scored.setdefault(key, []):
                demand(old[0].sum == part[0].sum or self._restored(old, part, all), "customers scored twice")
            self.scored[key].append(part)

    def _judge_again(self, old: Sequence[Seen], new: Sequence[Seen]) -> None:
        """Two openings of one sum. A home that was set back cannot know what it did; its masks are fresh all the same."""
        cohorts = {old[0].round.cohort, new[0].round.cohort}
        demand(len(cohorts) == 1, "two sets opened for one (run, kind, scope, t)")
        same = old[0].round.basis == new[0].round.basis
        demand(same or self._restored(old, new, all), "one sum opened under two models")
        equal = all(np.array_equal(a.x, b.x) for a, b in zip(_by_party(old), _by_party(new), strict=True))
        demand(equal or self._restored(old, new, any), "one sum opened over two sets of integers")

    def _restored(self, old: Sequence[Seen], new: Sequence[Seen], quantifier: Callable[[Iterable[bool]], bool]) -> bool:
        nodes = self.world.nodes
        pairs = zip(_by_party(old), _by_party(new), strict=True)
        return quantifier(
            any(min(a.seq, b.seq) < r < max(a.seq, b.seq) for r in nodes[a.party].restores) for a, b in pairs
        )


def _by_party(part: Sequence[Seen]) -> list[Seen]:
    return sorted(part, key=lambda s: s.party)
