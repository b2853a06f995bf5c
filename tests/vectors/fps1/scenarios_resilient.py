"""The negative vectors of the resilient profile; as scenarios.py. Names: "resilient:..." and "dropped:...", "full:..."."""

from __future__ import annotations

from typing import Any

import reference as ref
import resilient
from scenarios import NODE, OTHER, Step, case, step

LOST = "tax-2"
SET_UP = [{"call": "handle", "message": f"resilient:{m}"} for m in ("SetupReq", "KeyBundle", "OpenBundle")]


def collect(v: Any) -> dict[str, dict[str, Any]]:
    """``v``: generate.Resilient of five parties, quorum and threshold 3."""
    return set_ups(v) | agreeing(v) | opening(v) | uploads(v) | replies(v)


def _uploaded(v: Any) -> list[Step]:
    given = v.given(v.base, v.parts(v.base)[NODE])["integers"]
    return [*SET_UP, step("verify_round", "dropped:Round"), step("contribute", integers=given)]


def set_ups(v: Any) -> dict[str, dict[str, Any]]:
    def bad(text: str, error: str, request: bytes, **more: Any) -> dict[str, Any]:
        return case(text, error, step("handle", request), [], **more)

    strict = ref.setup_request(v.base, v.order)
    hybrid = ref.setup_request(v.base, v.order, profile="resilient", hybrid=True)
    return {
        "resilient_not_accepted": bad("a node that accepts no differencing", "differencing_refused", v.request, policy={"accept_differencing": False}),
        "resilient_asked_strict": bad("the strict profile, asked of a resilient node", "profile_mismatch", strict),
        "resilient_asked_hybrid": bad("ML-KEM, asked of a node that did not choose it", "kem_mismatch", hybrid),
    }  # fmt: skip


def agreeing(v: Any) -> dict[str, dict[str, Any]]:
    r, h, before = v.base, ref.round_hash(v.t0, v.base), _uploaded(v)
    alive = [p for p in v.order if p != LOST]
    fewer = [p for p in alive if p != "tax-3"]
    agreed, retry = step("handle", "dropped:Survivors"), step("verify_round", ref.round_message(r | {"attempt": 1}))

    def bad(text: str, error: str, names: list[str], after: list[Step] | None = None, h: bytes = h) -> dict[str, Any]:
        return case(text, error, step("handle", resilient.survivors(r, h, names)), before if after is None else after)

    score = r | {"kind": "score", "opener": "bank"}
    revealed = [*before, agreed, step("handle", f"dropped:Open/{NODE}")]
    return {
        "survivors_other_set": bad("another set than the one agreed to", "agreed_before", fewer, [*before, agreed]),
        "survivors_without_node": bad("a set without the node asked", "wrong_survivors", [p for p in alive if p != NODE]),
        "survivors_too_few": bad("fewer than the quorum", "too_few_survivors", ref.ordered([NODE, "bank"])),
        "survivors_all": bad("the full cohort, consented to already", "wrong_survivors", v.order),
        "survivors_before_upload": bad("survivors of a round that the node did not upload to", "not_uploaded", alive, before[:-1]),
        "survivors_other_hash": bad("survivors of another H", "wrong_round", alive, h=OTHER),
        "survivors_after_reveal": bad("an agreement asked for after the reveal", "revealed_before", alive, revealed),
        "survivors_score": case("survivors of a score sum", "score_needs_all", step("handle", resilient.survivors(score, h, alive)), before),
        "retry_after_agree": case("another attempt of a t that was agreed to", "agreed_before", retry, [*before, agreed]),
        "retry_after_reveal": case("another attempt of a t that was opened", "revealed_before", retry, revealed),
    }  # fmt: skip


def opening(v: Any) -> dict[str, dict[str, Any]]:
    r, h, parts, before = v.base, ref.round_hash(v.t0, v.base), v.parts(v.base), _uploaded(v)
    alive = [p for p in v.order if p != LOST]
    fewer = [p for p in alive if p != "tax-3"]
    agreed = [*before, step("handle", "dropped:Survivors")]

    def sealed(names: list[str]) -> dict[str, bytes]:
        return {o: parts[o].seal(NODE) for o in names if NODE not in v.circle.derived(o)}

    def signed(names: list[str], signers: list[str]) -> dict[str, bytes]:
        return {p: resilient.signature(v.members[p], r, h, names) for p in signers}

    def bad(
        text: str,
        error: str,
        names: list[str],
        signers: list[str],
        shares: dict[str, bytes],
        after: list[Step] = agreed,
    ) -> dict[str, Any]:
        message = resilient.opening(r, h, names, signed(names, signers), shares)
        return case(text, error, step("handle", message), after)

    good = sealed(alive)
    one = min(good, key=ref.wire_id)
    flipped = good | {one: good[one][:-1] + bytes((good[one][-1] ^ 1,))}
    derives = next(o for o in alive if NODE in v.circle.derived(o))
    forged = resilient.opening(r, h, alive, {p: bytes(64) for p in alive[:3]}, good)
    revealed = [*agreed, step("handle", f"dropped:Open/{NODE}")]
    return {
        "open_other_set": bad("another set than the one agreed to", "survivors_changed", fewer, fewer, sealed(fewer)),
        "open_full_after_agree": bad("the full cohort after an agreement withdrew the consent", "survivors_changed", v.order, v.order, sealed(v.order)),
        "open_second_set": bad("another set after the reveal", "revealed_before", fewer, fewer, sealed(fewer), revealed),
        "open_one_signature_short": bad("one signature less than the quorum", "too_few_signatures", alive, alive[:2], good),
        "open_signed_by_the_dropped": bad("a signature of a dropped member", "wrong_survivors", alive, ref.ordered([LOST, *alive[:2]]), good),
        "open_forged": case("signatures of nobody", "bad_signature", step("handle", forged), agreed),
        "open_share_changed": bad("one bit of a sealed share", "bad_share", alive, alive[:3], flipped),
        "open_share_left_out": bad("a survivor's share left out", "bad_share", alive, alive[:3], {p: s for p, s in good.items() if p != one}),
        "open_share_of_the_dropped": bad("shares of a dropped member's secrets", "bad_share", alive, alive[:3], good | {LOST: parts[LOST].seal(NODE)}),
        "open_share_not_needed": bad("a sealed share for a holder that derives it", "bad_share", alive, alive[:3], good | {derives: parts[derives].seal(NODE)}),
    }  # fmt: skip


def uploads(v: Any) -> dict[str, dict[str, Any]]:
    """The coordinator's side, after the set-up and the Round."""
    r, part = v.base, v.parts(v.base)["tax-3"]
    h, y = ref.round_hash(v.t0, v.base), v.given(v.base, part)["y"]
    inner = part.me.upload(r, h, y, ref.seed("head/tax-3"))
    consent = resilient.signature(part.me, r, h, v.order)
    ready = [step(c) for c in ("setup_request", "key_bundle", "open_bundle")] + [step("round", "dropped:Round")]

    def bad(text: str, error: str, **changed: Any) -> dict[str, Any]:
        fields = {"inner": inner, "consent": consent, "checks": part.checks, "sealed": part.sealed()} | changed
        message = resilient.upload(part.me, r, h, *fields.values())
        return case(text, error, step("add", message, sender="tax-3"), ready, side="coordinator", party="")

    others = v.circle.derived("tax-3")[: len(part.sealed())]
    swapped = {p: part.seal(p) for p in [*others, *part.sealed()][: len(part.sealed())]}
    return {
        "resilient_upload_consent": bad("a consent to another set", "bad_signature", consent=resilient.signature(part.me, r, h, v.order[1:])),
        "resilient_upload_holders": bad("shares for holders that derive theirs", "bad_share", sealed=swapped),
        "resilient_upload_short": bad("one check less", "wrong_length", checks=part.checks[16:]),
        "resilient_upload_lengths": bad("bytes moved from the checks to a share", "bad_share", checks=part.checks[16:], sealed=_longer(part.sealed())),
    }  # fmt: skip


def _longer(sealed: dict[str, bytes]) -> dict[str, bytes]:
    first = min(sealed, key=ref.wire_id)
    return sealed | {first: sealed[first] + bytes(16)}


def replies(v: Any) -> dict[str, dict[str, Any]]:
    r, h, parts = v.base, ref.round_hash(v.t0, v.base), v.parts(v.base)
    alive = [p for p in v.order if p != LOST]
    ready = [step(c) for c in ("setup_request", "key_bundle", "open_bundle")] + [step("round", "dropped:Round")]
    ready += [step("add", f"dropped:ResilientUpload/{p}", sender=p) for p in alive]
    asked = [*ready, step("survivors")]
    agreed = [*asked, *(step("agree", f"dropped:Agree/{p}", sender=p) for p in alive)]
    opened = [*agreed, step("requests")]

    def coordinator(text: str, error: str, bad: Step, before: list[Step]) -> dict[str, Any]:
        return case(text, error, bad, before, side="coordinator", party="")

    def revealed(party: str, change: bool, short: bool = False) -> bytes:
        owners = [o for o in v.circle.holders(party) if o in alive]
        shares = {o: parts[o].revealed(party, alive) for o in owners}
        if change:
            shares[alive[0]] = bytes((shares[alive[0]][0], shares[alive[0]][1] ^ 1)) + shares[alive[0]][2:]
        if short:
            shares[alive[0]] = shares[alive[0]][:-1]
        return resilient.reveal(v.members[party], r, h, alive, shares)

    other = resilient.agree(v.members[alive[0]], r, h, v.order)
    three = [step("reveal", f"dropped:Reveal/{p}", sender=p) for p in alive[1:3]]
    lie = step("reveal", revealed(alive[0], change=True), sender=alive[0])
    return {
        "survivors_late_upload": coordinator("an upload after the survivors were named", "wrong_state", step("add", f"dropped:ResilientUpload/{alive[0]}", sender=alive[0]), asked),
        "agree_other_set": coordinator("an agreement to another set", "wrong_round", step("agree", other, sender=alive[0]), asked),
        "agree_twice": coordinator("an agreement twice", "duplicate", step("agree", f"dropped:Agree/{alive[0]}", sender=alive[0]), agreed),
        "agree_too_few": coordinator("fewer agreements than the quorum", "too_few_signatures", step("requests"), agreed[: len(asked) + 2]),
        "reveal_short": coordinator("a share one byte short", "bad_share", step("reveal", revealed(alive[0], change=False, short=True), sender=alive[0]), opened),
        "reveal_too_few": coordinator("fewer reveals than the threshold", "missing_member", step("open"), opened + three),
        "reveal_false_share": coordinator("a false share among three", "bad_share", step("open"), [*opened, lie, *three]),
    }  # fmt: skip
