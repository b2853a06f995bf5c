"""What a node asks of a round before it contributes (sections 9.1, 9.2, 9.5), without any history."""

from __future__ import annotations

from collections.abc import Iterable

from fedprofile.errors import ProtocolError
from fedprofile.secagg.codes import CODES, refusal
from fedprofile.secagg.encoding import check_layout
from fedprofile.secagg.graph import Graph
from fedprofile.secagg.round_messages import Round
from fedprofile.types import Policy, Roster

SCORE_CLIP = 8.0
SCORE_SCALE = 1 / 16
MAX_FACTS = 256


def hidden(cohort: Iterable[str], label_owner: str, opener: str = "", colluders: int = 0) -> int:
    """Contributions that stay hidden from whoever learns the sum, the least over all recipients (section 9.1).

    A score sum reaches its opener alone; any other sum reaches the coordinator, which is one adversary
    with the label owner, and every member, by the weights that come back.
    """
    members = set(cohort)
    recipients = {opener} if opener else members | {label_owner}
    return min(len(members - {r}) for r in recipients) - colluders


def tolerance(cohort: Iterable[str], label_owner: str, opener: str = "") -> int:
    """Colluding members under which two contributions still hide each other; negative where nothing is hidden."""
    return hidden(cohort, label_owner, opener) - 2


def stricter(own: Policy, common: Policy) -> Policy:
    """The limits that satisfy both."""
    return Policy(
        min_hidden=max(own.min_hidden, common.min_hidden),
        colluders=max(own.colluders, common.colluders),
        min_customers=max(own.min_customers, common.min_customers),
        tasks=own.tasks or common.tasks,
        max_uploads=min(own.max_uploads, common.max_uploads),
        max_uploads_day=min(own.max_uploads_day, common.max_uploads_day),
        max_openings=min(own.max_openings, common.max_openings),
        max_points=min(own.max_points, common.max_points),
        clip=min(own.clip, common.clip),
        rings=tuple(r for r in own.rings if r in common.rings),
        recompute=own.recompute or common.recompute,
        accept_differencing=own.accept_differencing and common.accept_differencing,
    )


def check_hidden(policy: Policy, roster: Roster, cohort: tuple[str, ...], opener: str = "") -> None:
    """Raises PolicyRefusal("too_few_hidden")."""
    left = hidden(cohort, roster.label_owner, opener, policy.colluders)
    if left < policy.min_hidden:
        raise refusal("too_few_hidden", f"{max(left, 0)} hidden contributions, {policy.min_hidden} asked for")


def check_whole(roster: Roster, cohort: tuple[str, ...], scope: str = "") -> None:
    """A run has one roster (section 9.3): a sum is asked of all of it, or of all members of a role.

    Else a coordinator opens one t over several parts of a federation, which the members of one part cannot see.
    Whom a resilient sum may do without is a matter of ``check_survivors``, within such a cohort.
    Raises PolicyRefusal("cohort_refused").
    """
    whole = roster.members(scope) if scope else roster.parties
    if set(cohort) != {p.id for p in whole}:
        raise refusal("cohort_refused", "not all of the roster, or not all members of the role")


def check_survivors(policy: Policy, roster: Roster, graph: Graph, survivors: tuple[str, ...]) -> None:
    """Whether a set may open (5.6, 9.1): a quorum, enough hidden, and too few lost to cut the graph.

    Whoever names the dropped may pick them; with the colluders they stay fewer than the degree, so the pads
    that nobody knows still join all honest survivors. In a complete graph this says at least colluders + 2.
    Raises PolicyRefusal: too_few_survivors, too_few_hidden.
    """
    dropped = graph.members - len(survivors)
    if len(survivors) < graph.quorum or policy.colluders + dropped >= graph.degree:
        raise refusal("too_few_survivors", f"{len(survivors)} of {graph.members}")
    check_hidden(policy, roster, survivors)


def check_round(policy: Policy, roster: Roster, round: Round, error: type[ProtocolError]) -> None:
    """Opener, scope, whole cohort, hidden minimum, rings, clips and a layout that cannot overflow.

    Raises PolicyRefusal (cohort_refused, too_few_hidden, ring_refused, clip_refused) or
    ``error`` (wrong_opener, bad_layout, layout_overflow): remote at a node, local at the coordinator.
    """
    kind, scope, opener = round.id.kind, round.id.scope, round.id.opener
    if opener != (roster.label_owner if kind == "score" else ""):
        raise error("wrong_opener", kind, CODES["wrong_opener"])
    if opener and opener not in round.cohort:
        raise refusal("cohort_refused", "the opener has to take part in the masks")
    if (kind == "role" and not scope) or (kind in ("update", "score") and scope):
        raise refusal("cohort_refused", f"scope of kind {kind}")
    if scope and not set(round.cohort) <= {p.id for p in roster.members(scope)}:
        raise refusal("cohort_refused", "members of another role")
    check_hidden(policy, roster, round.cohort, opener)
    check_whole(roster, round.cohort, scope)
    check_layout(round.layout, len(round.contributors), error)
    _check_facts(round)
    for s in round.layout.segments:
        if s.ring not in policy.rings:
            raise refusal("ring_refused", f"segment {s.name!r}")
        if kind in ("update", "role") and s.ring != 64 and s.clip > policy.clip:
            raise refusal("clip_refused", f"segment {s.name!r}")
        if kind == "score" and (s.clip > SCORE_CLIP or s.scale < SCORE_SCALE):
            raise refusal("clip_refused", f"segment {s.name!r}")


def _check_facts(round: Round) -> None:
    """Z_2^64 has no clip of deltas, so that it can carry counts and loss sums: a few numbers of an update (9.2).

    Else a layout would move tensors there, past the clip. Raises PolicyRefusal("clip_refused").
    """
    allowed = {"update": MAX_FACTS, "role": 0}.get(round.id.kind)
    if allowed is not None and sum(s.size for s in round.layout.segments if s.ring == 64) > allowed:
        raise refusal("clip_refused", f"more than {allowed} numbers in Z_2^64")
