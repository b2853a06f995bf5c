"""The negative vectors: one scenario a file, what leads up to it, one bad call, and the exact error it must meet.

A step is {"call": name, ...}. ``message`` is hex, or the name of a message in setup.json ("setup:SetupReq") or of a
Round in a round file ("round:update"). A node's ``contribute`` and ``open_sum`` are about the round verified last.
"""

from __future__ import annotations

from typing import Any

import arithmetic as calc
import reference as ref

Step = dict[str, Any]
NODE, OWNER = "tax-1", "bank"
SET_UP = [{"call": "handle", "message": f"setup:{m}"} for m in ("SetupReq", "KeyBundle", "OpenBundle")]
OTHER = ref.seed("other")


def step(call: str, message: bytes | str = b"", **more: Any) -> Step:
    return {"call": call} | ({"message": message} if message else {}) | more


def case(text: str, error: str, bad: Step, before: list[Step], **more: Any) -> dict[str, Any]:
    """``more``: party, policy (this node's own limits), history (its journal), side."""
    return {"scenario": text, "side": "node", "party": NODE} | more | {"before": before, "bad": bad, "error": error}


def collect(v: Any) -> dict[str, dict[str, Any]]:
    return setup_requests(v) | bundles(v) | openings(v) | rounds(v) | contributions(v) | scores(v) | uploads(v)


def setup_requests(v: Any) -> dict[str, dict[str, Any]]:
    def bad(text: str, error: str, message: bytes, before: int = 0, **more: Any) -> dict[str, Any]:
        return case(text, error, step("handle", message), SET_UP[:before], **more)

    def request(cohort: list[str] | None = None, setup: int = 1, **over: Any) -> bytes:
        return ref.setup_request(v.base, v.order if cohort is None else cohort, setup, **over)

    r, order = v.request, v.order
    spent = [{"event": "setup", "run": v.base["run"].hex(), "setup": i} for i in range(1, 11)]
    return {
        "unknown_version": bad("a SetupReq of version 2", "unknown_version", r[:4] + b"\2" + r[5:]),
        "unknown_type": bad("a type tag that nobody uses", "unknown_type", r[:5] + b"\xfe" + r[6:]),
        "other_protocol": bad("another magic", "malformed", b"fps2" + r[4:]),
        "trailing_bytes": bad("one byte more than the message", "trailing_bytes", v.key_bundle + b"\0", 1),
        "truncated": bad("one byte less than the message", "wrong_length", r[:-1]),
        "wrong_order": bad("a cohort not in wire order", "wrong_order", request(order[::-1])),
        "duplicate_party": bad("a party twice in the cohort", "duplicate", request([order[0], *order])),
        "sybil": bad("a party that the roster does not know", "unknown_party", request(ref.ordered([*order, "sybil"]))),
        "wrong_roster": bad("another roster", "wrong_roster", request(roster_hash=OTHER)),
        "wrong_policy": bad("another common policy", "wrong_policy", request(policy_hash=OTHER)),
        "wrong_schema": bad("another plan", "wrong_schema", request(schema_hash=OTHER)),
        "wrong_profile": bad("the profile without masks", "profile_mismatch", request(profile="none")),
        "cohort_of_one": bad("a cohort of one", "too_few_hidden", request([NODE])),
        "too_few_hidden": bad("a cohort of two", "too_few_hidden", request(ref.ordered([OWNER, NODE]))),
        "part_of_roster": bad("a cohort without one party", "cohort_refused", request([p for p in order if p != OWNER])),
        "too_many_colluders": bad("more colluders feared than the cohort hides", "too_few_hidden", r, policy={"colluders": 2}),
        "setup_reused": bad("the same set-up number again", "setup_reused", r, 3),
        "setup_reused_restart": bad("a set-up number of the journal", "setup_reused", r, history=spent[:1]),
        "too_many_setups": bad("the eleventh set-up of a run", "too_many_setups", request(setup=11), history=spent),
        "wrong_run": bad("another run in one session", "wrong_run", request(setup=2, run=OTHER), 3),
        "need_setup": bad("a KeyBundle before any SetupReq", "need_setup", v.key_bundle),
        "wrong_state": bad("an OpenBundle before the KeyBundle", "wrong_state", v.open_bundle, 1),
        "bundle_twice": bad("the KeyBundle a second time", "wrong_state", v.key_bundle, 2),
    }  # fmt: skip


def bundles(v: Any) -> dict[str, dict[str, Any]]:
    run, request, members = v.base["run"], v.request, v.members
    at = {p: i for i, p in enumerate(v.order)}

    def bad(text: str, error: str, **replaced: bytes) -> dict[str, Any]:
        ads = list(v.ads)
        for party, ad in replaced.items():
            ads[at[party.replace("_", "-")]] = ad
        return case(text, error, step("handle", ref.bundle(3, ads)), SET_UP[:1])

    def raw(text: str, error: str, ads: list[bytes]) -> dict[str, Any]:
        return case(text, error, step("handle", ref.bundle(3, ads)), SET_UP[:1])

    mine, twin = members[NODE], v.ads[at["tax-2"]]
    flipped = twin[:-1] + bytes((twin[-1] ^ 1,))
    forged = members["tax-3"].key_ad(run, request)
    swapped = forged.replace(ref.wire_id("tax-3"), ref.wire_id("tax-2"))
    later = ref.setup_request(v.base, v.order, 2)
    return {
        "ad_signature": bad("one bit of a KeyAd's signature", "bad_signature", tax_2=flipped),
        "ad_swapped_party": bad("keys of one party under the name of another", "bad_signature", tax_2=swapped),
        "ad_other_setup": bad("a KeyAd for another SetupReq", "wrong_setup", tax_2=members["tax-2"].key_ad(run, later)),
        "ad_other_run": bad("a KeyAd for another run", "wrong_setup", tax_2=members["tax-2"].key_ad(OTHER, request)),
        "ad_own_key": bad("other keys for the node itself", "restore_mismatch", tax_1=mine.key_ad(run, request, pk_enc=ref.seed("x"))),
        "ad_key_twice": bad("one mask key for two parties", "duplicate", tax_2=members["tax-2"].key_ad(run, request, pk_mask=members["tax-3"].pk_mask)),
        "ad_commitment_twice": bad("a copied commitment", "duplicate", tax_2=members["tax-2"].key_ad(run, request, commit=calc.sha256(mine.nonce))),
        "bundle_order": raw("KeyAds not in wire order", "wrong_order", v.ads[::-1]),
        "bundle_duplicate": raw("a KeyAd twice", "duplicate", [v.ads[0], *v.ads]),
        "bundle_missing": raw("a member's KeyAd left out", "missing_member", v.ads[:-1]),
        "bundle_of_opens": raw("KeyOpens in the place of KeyAds", "wrong_type", v.opens),
    }  # fmt: skip


def openings(v: Any) -> dict[str, dict[str, Any]]:
    run, members, at = v.base["run"], v.members, v.order.index("tax-2")

    def bad(text: str, error: str, opened: bytes) -> dict[str, Any]:
        opens = [*v.opens[:at], opened, *v.opens[at + 1 :]]
        return case(text, error, step("handle", ref.bundle(5, opens)), SET_UP[:2])

    ads = list(v.ads)
    ads[at] = members["tax-2"].key_ad(run, v.request, pk_mask=bytes(32))
    weak = ref.bundle(3, ads)
    opens = ref.bundle(5, [members[p].key_open(run, weak) for p in v.order])
    return {
        "open_commitment": bad("a nonce that was not committed to", "bad_commitment", members["tax-2"].key_open(run, v.key_bundle, OTHER)),
        "open_other_bundle": bad("a KeyOpen for another KeyBundle", "wrong_setup", members["tax-2"].key_open(run, v.open_bundle)),
        "open_signature": bad("one bit of a KeyOpen's signature", "bad_signature", v.opens[at][:-1] + bytes((v.opens[at][-1] ^ 1,))),
        "low_order_key": case("a signed mask key of low order", "bad_key", step("handle", opens), [SET_UP[0], step("handle", weak)]),
    }  # fmt: skip


def rounds(v: Any) -> dict[str, dict[str, Any]]:
    update, stats, role, score = (v.rounds[k] for k in ("update", "stats", "role", "score"))
    played = [*SET_UP, step("verify_round", "round:update")]
    past = {"event": "upload", "at": 0, "run": OTHER.hex(), "kind": "update", "scope": "", "t": 0, "attempt": 0}
    past |= {"members": [p for p in v.order if p != "tax-3"], "basis": "", "score": "", "mac": "", "root": ""}

    def bad(text: str, error: str, r: dict[str, Any], before: list[Step] | None = None, **more: Any) -> dict[str, Any]:
        return case(text, error, step("verify_round", ref.round_message(r)), before or SET_UP, **more)

    def with_segment(r: dict[str, Any], **changed: Any) -> dict[str, Any]:
        return r | {"layout": [r["layout"][0] | changed, *r["layout"][1:]]}

    other_model = ref.round_message(update).replace(ref.field(b"model"), ref.field(b"modem"))
    pair = [p for p in v.order if p in (OWNER, NODE)]
    return {
        "round_before_setup": case("a Round before the set-up ended", "need_setup", step("verify_round", "round:update"), SET_UP[:2]),
        "round_other_run": bad("a Round of another run", "wrong_run", update | {"run": OTHER}),
        "round_other_policy": bad("a Round under another policy", "wrong_policy", update | {"policy_hash": OTHER}),
        "round_model_swapped": case("a model that the header does not hash", "bad_model_hash", step("verify_round", other_model), SET_UP),
        "round_repeated": bad("the same (t, attempt) again", "stale_round", update, played),
        "round_backwards": bad("an earlier t, another kind", "stale_round", stats, played),
        "round_far_ahead": bad("a jump of more than 4096", "round_jump", update | {"t": 5000}),
        "retry_other_model": bad("a retry with another model", "retry_differs", update | {"attempt": 1, "model": b"crafted"}, played),
        "retry_other_epoch": bad("a retry with another epoch", "retry_differs", update | {"attempt": 1, "epoch": 1}, played),
        "round_cohort_of_two": bad("a cohort of two", "too_few_hidden", update | {"cohort": pair}),
        "round_part_of_roster": bad("a cohort without one party", "cohort_refused", update | {"cohort": [p for p in v.order if p != OWNER]}),
        "round_other_role": bad("a sum of a role with a stranger in it", "cohort_refused", role | {"cohort": v.order}),
        "role_too_few_hidden": bad("a role that hides too few", "too_few_hidden", role, policy={"colluders": 1}),
        "differencing": bad("one member more than in an earlier run", "differencing", update, history=[past]),
        "layout_overflow": bad("steps that can leave the ring", "layout_overflow", with_segment(update, scale=2.0**-14)),
        "layout_name_twice": bad("two segments of one name", "bad_layout", update | {"layout": [update["layout"][0]] * 2}),
        "layout_scale_zero": bad("a scale of zero", "bad_layout", with_segment(update, scale=0.0)),
        "layout_clip_nan": bad("a clip that is no number", "bad_layout", with_segment(update, clip=float("nan"))),
        "layout_modulus_2": bad("a ring of one bit", "bad_layout", with_segment(update, ring=1)),
        "ring_refused": bad("a ring outside this node's policy", "ring_refused", update, policy={"rings": [16, 64]}),
        "clip_refused": bad("a wider clip than this node's policy", "clip_refused", with_segment(update, clip=1.5)),
        "score_clip_refused": bad("scores in finer steps", "clip_refused", with_segment(score, scale=1 / 32)),
        "score_for_coordinator": bad("a score sum without an opener", "wrong_opener", score | {"opener": ""}),
        "score_for_partner": bad("a score sum for a partner", "wrong_opener", score | {"opener": "tax-2"}),
        "update_for_owner": bad("an update for the label owner alone", "wrong_opener", update | {"opener": OWNER}),
    }  # fmt: skip


def contributions(v: Any) -> dict[str, dict[str, Any]]:
    given = v.contribution("update", NODE)["integers"]
    send, verify = step("contribute", integers=given), step("verify_round", "round:update")
    again = step("verify_round", "round:update-retry")
    changed = given | {"w": [given["w"][0] + 1, *given["w"][1:]]}
    fewer = {k: i for k, i in given.items() if k != "meta"}
    role = step("verify_round", "round:role")
    sent = [*SET_UP, verify, send]
    return {
        "upload_twice": case("a second upload under one pad", "already_contributed", send, sent),
        "retry_other_integers": case("a retry with other integers", "retry_differs", step("contribute", integers=changed), [*sent, again]),
        "integers_of_other_layout": case("integers without one tensor", "bad_values", step("contribute", integers=fewer), [*SET_UP, verify]),
        "audit_head_length": case("an audit head of 31 bytes", "wrong_length", send | {"audit_head": bytes(31)}, [*SET_UP, verify]),
        "too_many_uploads": case("one upload more than this node allows", "too_many_uploads", role, sent, policy={"max_uploads": 1}),
    }  # fmt: skip


def scores(v: Any) -> dict[str, dict[str, Any]]:
    score, sums = v.rounds["score"], v.round_file("score")["MaskedSum"]
    verify, send = (
        step("verify_round", "round:score"),
        step("contribute", integers=v.contribution("score", NODE)["integers"]),
    )
    y = bytes(calc.size(score["layout"][0]) * 2)
    opened = [*SET_UP, verify, step("open_sum", sums)]
    again = step("verify_round", ref.round_message(score | {"attempt": 1}))
    foreign = ref.masked_sum(score, OTHER, y)
    owner = {"party": OWNER}
    next_bundle, next_t = score | {"t": 8, "bundle": OTHER}, score | {"t": 8}
    next_epoch = next_t | {"epoch": score["epoch"] + 1}
    return {
        "owner_uploads": case("the opener uploads", "opener_uploads_nothing", send, [*SET_UP, verify], **owner),
        "partner_opens": case("a partner opens a score sum", "wrong_opener", step("open_sum", sums), [*SET_UP, verify]),
        "opened_twice": case("the same sum again", "opened_before", step("open_sum", sums), opened, **owner),
        "opened_in_retry": case("another attempt of an opened sum", "opened_before", step("open_sum", sums), [*opened, again], **owner),
        "masked_sum_root": case("one bit of a masked sum", "bad_root", step("open_sum", sums[:-1] + bytes((sums[-1] ^ 1,))), [*SET_UP, verify], **owner),
        "masked_sum_foreign": case("a masked sum under another H", "wrong_round", step("open_sum", foreign), [*SET_UP, verify], **owner),
        "masked_sum_short": case("a masked sum of another length", "wrong_length", step("open_sum", ref.masked_sum(score, v.round_file("score")["H"], y[:-2])), [*SET_UP, verify], **owner),
        "scored_twice": case("the same epoch under another t", "opened_before", step("verify_round", ref.round_message(next_t)), [*SET_UP, verify, send]),
        "epoch_too_soon": case("the next epoch a moment later", "epoch_too_soon", step("verify_round", ref.round_message(next_epoch)), [*SET_UP, verify, send]),
        "too_many_openings": case("one score more than this node allows", "too_many_openings", step("verify_round", ref.round_message(next_bundle)), [*SET_UP, verify, send], policy={"max_openings": 1}),
    }  # fmt: skip


def uploads(v: Any) -> dict[str, dict[str, Any]]:
    """The coordinator's side: a set-up with all replies, one round, and the uploads of its members."""
    r, members = v.rounds["update"], v.members
    h = ref.round_hash(v.t0, r)
    sent = {p: v.contribution("update", p) for p in v.order}
    ready = [step("setup_request"), step("key_bundle"), step("open_bundle"), step("round", "round:update")]
    good = sent["tax-2"]

    def bad(text: str, error: str, upload: bytes, before: int = 0, party: str = "tax-2") -> dict[str, Any]:
        more = [step("add", good["upload"], sender="tax-2")][:before]
        return case(text, error, step("add", upload, sender=party), ready + more, side="coordinator", party="")

    y = good["y"][:-1] + bytes((good["y"][-1] ^ 1,))
    stolen = members["tax-3"].upload(r, h, good["y"]).replace(ref.wire_id("tax-3"), ref.wire_id("tax-2"))
    end = case("a sum without one member", "missing_member", step("open"), ready, side="coordinator", party="")
    return {
        "upload_duplicated": bad("one upload twice", "duplicate", good["upload"], 1),
        "upload_foreign_name": bad("an upload handed in by another party", "unknown_party", good["upload"], party="tax-1"),
        "upload_stolen": bad("a vector under another party's name", "bad_signature", stolen),
        "upload_replayed": bad("an upload of another attempt", "wrong_round", v.contribution("update-retry", "tax-2")["upload"]),
        "upload_y_changed": bad("one bit of y", "bad_root", good["upload"][: -len(y)] + y),
        "upload_y_and_root_changed": bad("y and its root, signed by nobody", "bad_signature", good["upload"][: -len(y)].replace(calc.tree_root(good["y"]), calc.tree_root(y)) + y),
        "upload_short": bad("a vector one element short", "wrong_length", members["tax-2"].upload(r, h, good["y"][:-2])),
        "sum_without_member": end,
    }  # fmt: skip
