"""The coordinator's side: what it accepts into a sum, by party and by round."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedprofile.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from fedprofile.secagg.identity import Identity
from fedprofile.secagg.messages import Upload
from fedprofile.types import Layout, Segment


@pytest.fixture
def running(federate, layout):
    fed = federate(4).set_up()
    values = fed.integers(layout)
    uploads = fed.uploads(fed.server.round(fed.id(), fed.names, layout, b"m"), values)
    return fed, values, uploads


def _resigned(fed, data, party, identity):
    upload = replace(Upload.decode(data, fed.roster), party=party)
    return replace(upload, signature=identity.sign("Upload", upload.body())).encode()


def test_every_member_once_and_nobody_else(running, expected, layout):
    fed, values, uploads = running
    with pytest.raises(RemoteProtocolError, match=r"missing_member.*tax3"):
        fed.server.open(fed.id(), {p: u for p, u in uploads.items() if p != "tax3"})
    with pytest.raises(RemoteProtocolError, match=r"duplicate.*tax1"):
        fed.server.add(fed.id(), "tax1", uploads["tax1"])
    opened = fed.server.open(fed.id(), {"tax3": uploads["tax3"]})
    assert all((opened.values[n] == v).all() for n, v in expected(layout, values).items())
    with pytest.raises(LocalProtocolError, match="wrong_round"):
        fed.server.open(fed.id(), uploads)


def test_uploads_refused(running, layout, federate):
    fed, values, uploads = running
    intruder = Identity.from_seed(b"i" * 32)
    replayed = fed.uploads(fed.server.round(fed.id(t=1), fed.names, layout, b"m"), values)
    fed.server.round(fed.id(t=2), fed.names, layout, b"m")
    now = fed.server.round(fed.id(t=3), fed.names, layout, b"m")
    fresh = fed.uploads(now, values)
    cases = {
        "replayed from another round": (replayed["tax1"], "wrong_round"),
        "replayed from the first": (uploads["tax1"], "wrong_round"),
        "in another's name": (fresh["tax2"], "unknown_party"),
        "another's vector re-signed": (_resigned(fed, fresh["tax2"], "tax1", fed.ids["tax2"]), "bad_signature"),
        "unknown signer": (_resigned(fed, fresh["tax1"], "tax1", intruder), "bad_signature"),
        "sybil": (_resigned(fed, fresh["tax1"], "sybil", intruder), "unknown_party"),
        "short": (fresh["tax1"][:-2], "wrong_length"),
    }
    for name, (data, code) in cases.items():
        with pytest.raises(RemoteProtocolError) as refused:
            fed.server.add(fed.id(t=3), "tax1", data)
        assert refused.value.code == code, name
    # the same keys and names in another set-up: T0 differs, so does H
    other = federate(4, seed="b").set_up()
    alien = other.uploads(other.server.round(fed.id(t=3), fed.names, layout, b"m"), values)
    with pytest.raises(RemoteProtocolError, match="wrong_round"):
        fed.server.add(fed.id(t=3), "tax1", alien["tax1"])
    assert fed.server.open(fed.id(t=3), fresh)


def test_set_up_replies_refused(federate):
    fed, old = federate(3), federate(3).set_up()
    request = fed.server.setup_request()
    ads = {p: s.handle(request) for p, s in fed.nodes.items()}
    stale = old.nodes["tax1"].handle(old.server.setup_request())
    for replies, code in [
        ({p: ads[p] for p in ("bank", "tax1")}, "missing_member"),
        (ads | {"tax1": ads["tax2"]}, "unknown_party"),
        (ads | {"tax1": stale}, "wrong_setup"),
    ]:
        with pytest.raises(ProtocolError) as refused:
            fed.server.key_bundle(replies)
        assert refused.value.code == code
    bundle = fed.server.key_bundle(ads)
    opens = {p: s.handle(bundle) for p, s in fed.nodes.items()}
    with pytest.raises(RemoteProtocolError, match=r"missing_member.*tax2"):
        fed.server.open_bundle({p: opens[p] for p in ("bank", "tax1")})


def test_rounds_that_nodes_would_refuse_never_leave(running, layout):
    fed, _, _ = running
    over = Layout((Segment("w", (4,), 16, 1.0, 2**-14),))
    for round_id, cohort, asked, code in [
        (fed.id(t=1), fed.names, over, "layout_overflow"),
        (fed.id(t=1), ("bank", "tax1"), layout, "too_few_hidden"),
        (replace(fed.id(t=1), opener="tax1"), fed.names, layout, "wrong_opener"),
        (fed.id(t=-1), fed.names, layout, "stale_round"),
        (replace(fed.id(), run_id=b"\1" * 32), fed.names, layout, "wrong_run"),
    ]:
        with pytest.raises(ProtocolError) as refused:
            fed.server.round(round_id, cohort, asked, b"m")
        assert refused.value.code == code


def test_role_sum_over_its_members_only(running, layout, expected):
    fed, _, _ = running
    members = tuple(p for p in fed.names if p != "bank")
    layout = Layout(tuple(s for s in layout.segments if s.ring != 64))
    values = fed.integers(layout)
    data = fed.server.round(fed.id("role", scope="tax"), members, layout, b"m")
    with pytest.raises(ProtocolError, match="cohort_refused"):
        fed.nodes["bank"].verify_round(data)
    opened = fed.server.open(fed.id("role", scope="tax"), fed.uploads(data, {p: values[p] for p in members}))
    assert all((opened.values[n] == v).all() for n, v in expected(layout, {p: values[p] for p in members}).items())
