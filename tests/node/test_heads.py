"""A fork of a partner's audit log, or one that went back, ends the run one round later, whoever helps to hide it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedprofile.errors import NodeFailed
from fedprofile.governance.audit import heads_root
from fedprofile.governance.audit_verify import heads_of
from fedprofile.messages import Envelope
from fedprofile.node.audit import NodeAudit, log_of
from fedprofile.secagg.messages import Round, Upload
from fedprofile.secagg.wire import ZERO_HASH, claims


@pytest.fixture
def second(world):
    """The world after round 1, and the requests of round 2 with the signed uploads of round 1."""
    return world, world.drive(until="round", times=2)


def split(request):
    request, *uploads = Envelope.decode(request).parts
    assert all(claims(part, "Upload") for part in uploads)
    return request, uploads


def of_tax(world, uploads):
    """Position and decoded upload of tax."""
    decoded = [Upload.decode(part, world.job.roster) for part in uploads]
    return next((i, u) for i, u in enumerate(decoded) if u.party == "tax")


def with_fork(world, uploads):
    """The same uploads, that of tax with another head that tax signed as well."""
    i, _ = of_tax(world, uploads)
    return [*uploads[:i], signed_again(world, uploads[i], bytes(range(32))).encode(), *uploads[i + 1 :]]


def signed_again(world, part, head):
    """The same upload with another head, signed by its own party."""
    upload = Upload.decode(part, world.job.roster)
    unsigned = replace(upload, audit_head=head, signature=b"")
    return replace(upload, audit_head=head, signature=world.node(upload.party).identity.sign("Upload", unsigned.body()))


def head_lines(world, party):
    return [r for r in log_of(world.home(party)).chain if r["event"] == "heads"]


def test_nodes_keep_the_heads_that_the_others_signed(second):
    world, requests = second
    roster, (request, uploads) = world.job.roster, split(requests["tax"])
    heads = {u.party: u.audit_head for u in (Upload.decode(part, roster) for part in uploads)}
    assert Round.decode(request, roster).audit_head == heads_root(heads) != ZERO_HASH
    assert world.ask("tax", "round", {}, request, *uploads).type == "uploads"
    (line,) = head_lines(world, "tax")
    assert (line["t"], line["peers"]) == (2, {party: head.hex() for party, head in heads.items()})
    assert heads_of("bank", world.home("tax").path) == {heads["bank"]}
    own = {h.hash for h, _ in log_of(world.home("bank")).chain.lines()}
    assert heads["bank"] in own


def test_a_fork_is_noticed_by_the_partner_who_is_shown_the_other_history(second):
    world, requests = second
    request, uploads = split(requests["bank"])
    forked = with_fork(world, uploads)
    assert world.ask("ecommerce", "round", {}, request, *forked).body == {"code": "audit_head_mismatch"}
    assert not head_lines(world, "ecommerce")
    assert world.ask("bank", "round", {}, request, *uploads).type == "uploads"


def test_a_coordinator_that_binds_each_partner_to_its_own_history_gets_noise(second):
    """Every field of a Round is bound into the masks: two roots are two rounds, and neither has all its members."""
    world, requests = second
    roster, (request, uploads) = world.job.roster, split(requests["bank"])
    forked = with_fork(world, uploads)
    root = heads_root({u.party: u.audit_head for u in (Upload.decode(part, roster) for part in forked)})
    twin = replace(Round.decode(request, roster), audit_head=root).encode()
    one = Upload.decode(world.ask("bank", "round", {}, request, *uploads).parts[0], roster)
    two = Upload.decode(world.ask("ecommerce", "round", {}, twin, *forked).parts[0], roster)
    assert one.h != two.h


def test_a_coordinator_cannot_leave_the_root_out(second):
    world, requests = second
    request, uploads = split(requests["tax"])
    round = Round.decode(request, world.job.roster)
    for attempt, head in enumerate((ZERO_HASH, bytes(range(32)))):
        false = replace(round, audit_head=head, id=replace(round.id, attempt=attempt)).encode()
        assert world.ask("tax", "round", {}, false, *uploads).body == {"code": "audit_head_mismatch"}


def test_a_log_that_went_back_is_noticed_by_the_others(second, monkeypatch):
    """Home, journal and log of tax were put back together: tax itself cannot know, but its head was seen before."""
    world, requests = second
    old = of_tax(world, split(requests["tax"])[1])[1].audit_head
    honest, exchange = NodeAudit.head, world.exchange()
    fresh = lambda self: old if self is world.node("tax").audit else honest.fget(self)  # noqa: E731
    monkeypatch.setattr(NodeAudit, "head", property(fresh))
    codes = {}

    def via(party, request):
        reply = world.node(party).handle(request)
        if Envelope.decode(reply).type == "error":
            codes[party] = Envelope.decode(reply).body["code"]
        return reply

    with pytest.raises(NodeFailed, match="audit_rolled_back"):
        world.drive(exchange, via)
    assert set(codes.values()) == {"audit_rolled_back"}
