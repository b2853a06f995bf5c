"""A node in its federation: the invitation that it signed, and the roster that it pinned.

Signing proposes, pinning decides: a roster counts at this node once the coordinator brings it with the signature of
every member of the version before, and only if it is the very one that this node signed. A version is never pinned
twice, and never goes back (secure-sum 9.6). The coordinator brings it with a run, or with the proposal of the next one.
A newcomer starts from the version in force, on the word of all its members, and pins none before the one that names it.
"""

from __future__ import annotations

from fedprofile.enrolment import NAME, Invitation, RosterSignature, read_document
from fedprofile.errors import ProtocolError, RemoteProtocolError, UsageError
from fedprofile.node.home import NodeHome
from fedprofile.node.policy import COMMON, ROSTER, read_roster, write_json
from fedprofile.secagg.identity import Identity, verify_members, verify_roster
from fedprofile.types import Roster

SIGNED = "invitation.json"
CA = "ca.crt"


def sign_invitation(home: NodeHome, invitation: Invitation, identity: Identity) -> RosterSignature:
    """Keep what was signed, and where the coordinator is; returns the signature that goes back.

    Raises UsageError for a roster that does not follow ``followed_roster``, names another key for this party, or holds
    a name that is none.
    """
    roster, pinned = invitation.roster, pinned_roster(home)
    if not all(NAME.fullmatch(name) for party in roster.parties for name in (party.id, party.role)):
        raise UsageError("the invitation names a party or role by what is no name", "Do not sign; ask the coordinator.")
    before = followed_roster(home, invitation)
    expected = (before.version + 1, before.hash) if before else (1, b"")
    if (roster.version, roster.previous) != expected:
        have = f"version {pinned.version}" if pinned else "none"
        what = f"the invitation proposes roster version {roster.version}, this node has pinned {have}"
        raise UsageError(what, "Ask the coordinator for a proposal that follows it; rosters never go back.")
    mine = [p for p in roster.parties if p.id == home.config.party]
    if mine and (mine[0].sign_pk, mine[0].role) != (identity.sign_pk, home.config.role):
        raise UsageError(f"the invitation names another key or role for {home.config.party!r}", "Enrol again.")
    if not mine and pinned is None:
        raise UsageError(f"{home.config.party!r} is not in the invitation", "Send the coordinator your request.json.")
    if before is not None and not is_newcomer(home, before):
        pin(home, before)
    write_json(home.path / SIGNED, invitation.to_json())
    (home.path / CA).write_text(invitation.ca)
    home.configure(label_owner=roster.label_owner)
    return RosterSignature.of(home.config.party, roster, identity)


def signed_invitation(home: NodeHome) -> Invitation:
    """The last invitation that this node signed. Raises UsageError before there is one."""
    path = home.path / SIGNED
    if not path.exists():
        raise UsageError(f"{home.path} has signed no invitation", "`fedprofile node sign-roster HOME INVITATION`.")
    document = read_document(path)
    if not isinstance(document, Invitation):
        raise UsageError(f"{path} is no invitation", "Sign the coordinator's again.")
    return document


def audit_key(home: NodeHome) -> bytes:
    """The key of the coordinator's audit log (32 bytes), as the last signed invitation names it; empty for none."""
    return bytes.fromhex(signed_invitation(home).audit_key) if (home.path / SIGNED).exists() else b""


def pinned_roster(home: NodeHome) -> Roster | None:
    return read_roster(home) if (home.path / ROSTER).exists() else None


def followed_roster(home: NodeHome, invitation: Invitation) -> Roster | None:
    """The version that a proposal has to follow: the pinned one, or the one in force that the invitation brings, where
    this node signed it and no run has brought it yet; a newcomer's is the one in force. None where there is none.

    Raises UsageError for one that this node did not sign, or that lacks a signature.
    """
    pinned, previous = pinned_roster(home), invitation.previous
    if previous is None or (pinned is not None and pinned.hash == previous.hash):
        return pinned
    try:
        if is_newcomer(home, previous):
            verify_members(previous)
        else:
            _check_whole(home, previous)
    except ProtocolError as error:
        what = f"the invitation says that roster version {previous.version} is in force: {error}"
        raise UsageError(what, "Do not sign; ask the coordinator which versions came before.") from None
    return previous


def is_newcomer(home: NodeHome, previous: Roster) -> bool:
    """Whether this node is in no federation yet, of which ``previous`` is in force: all of it is new to it."""
    return pinned_roster(home) is None and home.config.party not in {p.id for p in previous.parties}


def pin(home: NodeHome, roster: Roster) -> None:
    """Take a fully signed roster as this node's own.

    Raises RemoteProtocolError for one that this node did not sign, or that lacks a signature.
    """
    pinned = pinned_roster(home)
    if pinned is not None and pinned.hash == roster.hash:
        return
    invitation = _check_whole(home, roster)
    write_json(home.path / COMMON, invitation.policy.to_json())
    write_json(home.path / ROSTER, roster.to_json())


def _check_whole(home: NodeHome, roster: Roster) -> Invitation:
    """The invitation by which this node signed the roster, once every member before and in it has signed."""
    invitation = signed_invitation(home) if (home.path / SIGNED).exists() else None
    if invitation is None or invitation.roster.hash != roster.hash:
        raise RemoteProtocolError("wrong_roster", "this node has not signed that roster")
    verify_roster(roster, pinned_roster(home) or invitation.previous)
    verify_members(roster)
    return invitation
