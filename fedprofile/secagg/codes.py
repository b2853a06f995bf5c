"""The fixed identifiers of everything that a node refuses. Only the code crosses the wire, never the text."""

from __future__ import annotations

from fedprofile.errors import LocalProtocolError, PolicyRefusal, RemoteProtocolError

_ASK = "Ask the other side which version and plan it runs; nothing was released."
_RESTART = "Start a new set-up with a higher number."
_RETRY = "Send a new round with a higher (t, attempt)."
_PLAN = "Change the plan, or this node's policy if its owner agrees."

STRICT: dict[str, str] = {
    # bytes
    "malformed": _ASK,
    "unknown_version": _ASK,
    "unknown_type": _ASK,
    "wrong_type": _ASK,
    "wrong_length": _ASK,
    "wrong_order": _ASK,
    "trailing_bytes": _ASK,
    "too_large": _ASK,
    "duplicate": _ASK,
    "bad_root": _ASK,
    "bad_model_hash": _ASK,
    "bad_layout": "Give every segment its own name, a shape, a known ring, and finite positive clip and scale.",
    "layout_overflow": "Choose a larger scale, a smaller clip or a wider ring.",
    # who
    "bad_signature": "Compare the pinned keys of the roster with that party.",
    "bad_identity": "Give the session the identity and the party id that belong together in the roster.",
    "bad_roster": "Give every party its own id and key, and name a label owner that is a party.",
    "unknown_party": "Only parties of the pinned roster may take part.",
    "unknown_signer": "Only members of the previous and the new roster may sign it.",
    "unsigned_roster": "Every member of the previous roster version has to sign the new one.",
    "wrong_roster": "Pin the same roster at all parties.",
    "wrong_policy": "Agree on one common policy at all parties.",
    "wrong_schema": "Approve the same plan at all parties.",
    "profile_mismatch": "Name the same secure profile at the coordinator and at every node.",
    # set-up
    "wrong_run": "Open one session for each run.",
    "setup_reused": _RESTART,
    "too_many_setups": "Wait for the next day (UTC), or start a new run.",
    "wrong_state": _RESTART,
    "need_setup": _RESTART,
    "bad_key": _RESTART,
    "bad_commitment": _RESTART,
    "wrong_setup": _RESTART,
    "restore_mismatch": "Restore with the random source of that session; otherwise set up anew.",
    "bad_random": "The random source has to return exactly the bytes asked for.",
    # rounds
    "wrong_round": "The message belongs to another round.",
    "stale_round": _RETRY,
    "round_jump": _RETRY,
    "retry_differs": "A retry repeats cohort, model, layout and integers; otherwise use the next t.",
    "not_verified": "Pass the round that verify_round returned last for this kind and scope.",
    "already_contributed": _RETRY,
    "opener_uploads_nothing": "The opener of a sum takes part in its masks only.",
    "wrong_opener": "A score sum is opened by the label owner, every other sum by the coordinator.",
    "opened_before": "A score is opened once for each alignment, bundle and epoch; use the cached sum.",
    "epoch_too_soon": "Wait a day between two epochs of one alignment and bundle; until then use the cached sum.",
    "missing_member": "Wait for that member, or retry the round; a strict sum opens only with all of them.",
    "bad_values": "Check that node's training for NaN and the plan for a changed layout.",
    # policy
    "too_few_hidden": "Invite more parties, or name secure.min_hidden=1 explicitly; the report will state it.",
    "cohort_refused": _PLAN,
    "differencing": "Keep the cohort, or change it by at least colluders + 2 members.",
    "too_many_uploads": _PLAN,
    "too_many_openings": _PLAN,
    "ring_refused": _PLAN,
    "clip_refused": _PLAN,
}

# fps1 where survivors are named, or keys are hybrid
RESILIENT: dict[str, str] = {
    "not_uploaded": "Ask only for a sum that this node uploaded to in this (t, attempt).",
    "wrong_survivors": "Name contributors of this round, the node asked among them.",
    "survivors_changed": "One round opens one set: ask for the set that this node agreed to.",
    "agreed_before": "One round opens one set; go on with the next t.",
    "revealed_before": "One round opens one set, once; go on with the next t.",
    "too_few_survivors": "Wait for more members, or go on with the next t; nothing was released.",
    "too_few_signatures": "Gather the agreement of more survivors.",
    "bad_share": "Go on with the next t; the member that sent the share has to be asked why.",
    "score_needs_all": "Wait for every member: a score sum never opens over a subset.",
    "differencing_refused": "Name secure.accept_differencing=true at every node; the report will state it.",
    "threshold_refused": "Invite more parties or count on fewer colluders.",
    "bad_ciphertext": _RESTART,
    "kem_mismatch": "Name the same secure.kem at the coordinator and at every node.",
}

# what a node asks of a request beyond fps1
BEYOND: dict[str, str] = {
    "bad_envelope": _ASK,
    "not_for_this_node": _ASK,
    "bad_order": _ASK,
    "wrong_kind": _ASK,
    "bad_request": _ASK,
    "no_plan": "Have the plan approved first.",
    "wrong_spine": "Align the ids again, at all parties.",
    "wrong_layout": _ASK,
    "schema_mismatch": "Agree on the role's columns, or share no encoder.",
    "task_refused": _PLAN,
    "plan_refused": "Ask the node's people what they would approve.",
    "release_too_small": _PLAN,
    "too_few_views": _PLAN,
    "unknown_start": "Plan without a start: this node does not know the weights that the run is to begin from.",
    "not_verifiable": "Plan with secure.verify=recompute, or change this node's policy if its owner agrees.",
    "unmasked_uploads": "Use secure=strict, or secure.verify=none.",
    "not_recomputable": "Use secure=strict, or secure.verify=none.",
    "no_release": "Release the labels first.",
    "bad_release": _ASK,
    "release_changed": "Start a new run.",
    "no_counts": "Count the role's bins first.",
    "bins_changed": "Start a new run.",
    "wrong_bins": "Start a new run.",
    "bad_model": _ASK,
    "no_model": _ASK,
    "bad_sum": _ASK,
    "no_scores": "Weigh the nodes first.",
    "bad_acknowledgement": "Ask that partner whether it has finished this run: the coordinator only carries its word.",
    # alignment
    "bad_letter": _ASK,
    "wrong_letter": _ASK,
    "letter_changed": "A partner asks and claims once a run; a retry repeats the same letter.",
    "bad_size": _ASK,
    "bad_alignment": _ASK,
    "wrong_party": "The letter was written by another party, or for another one.",
    "bad_point": "The other side sent what no masked customer looks like: a point of small order, or above 2^255 - 20.",
    "duplicate_points": "Every customer may be asked about once.",
    "too_many_points": "Raise align.max_points if the label owner agrees to answer for so many customers.",
    "align_mismatch": "Name the same align mode at the coordinator and at every node.",
    "no_spine": "Align first.",
    "bad_spine": "The label owner's signature says who made the spine; nobody else's counts.",
    "union_release_changed": "One population a federation, for ever: use align=psi, or new partners.",
    "spine_changed": "A run has one spine; start a new run.",
    "consent_changed": "A customer's permit ended between two attempts: start a new run, without them.",
    "not_concluded": "The label owner concludes its last training first, or drops it: `fedprofile node conclude`.",
    # audit logs
    "audit_head_mismatch": "Ask who runs the coordinator: nodes were shown different histories of an audit log.",
    "audit_rolled_back": "Ask that party whether its home was put back from a backup: its audit log went back.",
    "coordinator_log": (
        "Ask who runs the coordinator: its audit log was cut, put back, forked or left out. This node's own log holds "
        "what it was shown: compare the two (fedprofile audit verify DIR --peer HOME)."
    ),
    # recomputed sums
    "too_large_to_recompute": "Use a smaller model, fewer columns or levels, or secure.verify=none.",
    "zero_weight": "Ask the nodes whether any of them had rows to train on.",
    "not_recomputed": "Ask who runs the coordinator: it sent something else than what the nodes summed.",
}

CODES = STRICT | RESILIENT | BEYOND

OWN_FAULTS = frozenset(
    {"audit_failed", "node_failed", "internal_error", "unknown_message", "message_too_large", "bad_epsilon"}
)
"""What a node says without a complaint: the cause is its own, and in its own log."""


def local(code: str, what: str = "") -> LocalProtocolError:
    """This side broke the protocol."""
    return LocalProtocolError(code, what, CODES[code])


def remote(code: str, what: str = "") -> RemoteProtocolError:
    """The other side broke the protocol."""
    return RemoteProtocolError(code, what, CODES[code])


def refusal(code: str, what: str = "") -> PolicyRefusal:
    """Well formed, but outside this node's policy."""
    return PolicyRefusal(code, what, CODES[code])
