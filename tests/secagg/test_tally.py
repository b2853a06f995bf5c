"""Adding uploads again: the same sum as the coordinator's, and no upload that is not exactly what was signed."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from fedprofile.errors import RemoteProtocolError
from fedprofile.secagg.messages import Round, Upload
from fedprofile.secagg.tally import Terms, recompute
from fedprofile.secagg.wire import wire_order
from fedprofile.types import Layout, Segment


def summed(fed, layout, seed=0):
    """Values, terms as a member knows them, and all uploads in wire order."""
    values = fed.integers(layout, seed)
    data = fed.server.round(fed.id(), fed.names, layout, b"m")
    uploads = fed.uploads(data, values)
    round = Round.decode(data, fed.roster)
    return values, Terms.of(round, fed.nodes["bank"].bound(round)), [uploads[p] for p in wire_order(fed.names)]


@pytest.mark.parametrize("n", [3, 7, 12])
def test_a_member_opens_what_the_coordinator_opens(federate, layout, expected, n):
    fed = federate(n).set_up()
    values, terms, uploads = summed(fed, layout)
    mine = recompute(fed.roster, terms, uploads)
    opened = fed.server.open(terms.id, dict(zip(terms.contributors, uploads, strict=True)))
    for name, value in expected(layout, values).items():
        assert mine[name].tobytes() == opened.values[name].tobytes() == value.tobytes()


def test_each_contributor_once_in_wire_order(federate, layout):
    fed = federate(4).set_up()
    _, terms, (a, b, c, d) = summed(fed, layout)
    for uploads, code in [
        ([a, b, c], "missing_member"),
        ([a, b, c, c], "unknown_party"),
        ([a, b, c, d, d], "duplicate"),
        ([b, a, c, d], "unknown_party"),
        ([], "missing_member"),
    ]:
        with pytest.raises(RemoteProtocolError) as refused:
            recompute(fed.roster, terms, uploads)
        assert refused.value.code == code


@pytest.mark.parametrize("field", ["h", "id", "spine_hash", "bundle_hash", "epoch"])
def test_uploads_of_another_round_are_not_added(federate, layout, field):
    fed = federate(3).set_up()
    _, terms, uploads = summed(fed, layout)
    other = {"id": fed.id(attempt=1), "epoch": 1}.get(field, b"\1" * 32)
    with pytest.raises(RemoteProtocolError, match="wrong_round"):
        recompute(fed.roster, replace(terms, **{field: other}), uploads)


def test_every_byte_of_an_upload_counts(federate, layout):
    fed = federate(3).set_up()
    _, terms, uploads = summed(fed, layout)
    for at in range(0, len(uploads[1]), 7):
        forged = bytearray(uploads[1])
        forged[at] ^= 1
        with pytest.raises(RemoteProtocolError):
            recompute(fed.roster, terms, [uploads[0], forged, uploads[2]])


def test_a_vector_that_its_party_did_not_sign_is_not_added(federate, layout):
    fed = federate(3).set_up()
    _, terms, uploads = summed(fed, layout)
    honest = Upload.decode(uploads[1], fed.roster)
    y = bytearray(honest.y)
    y[0] ^= 1
    assert (refusal(fed, terms, uploads, replace(honest, y=y)), refusal(fed, terms, uploads, honest)) == (
        "bad_root",
        "",
    )
    round = Round.decode(fed.server.round(fed.id(), fed.names, layout, b"m"), fed.roster)
    coordinator = fed.ids["bank"]
    resigned = Upload.of(round, honest.party, honest.h, honest.audit_head, y, coordinator)
    assert refusal(fed, terms, uploads, resigned) == "bad_signature"


def refusal(fed, terms, uploads, second):
    try:
        recompute(fed.roster, terms, [uploads[0], second.encode(), uploads[2]])
    except RemoteProtocolError as error:
        return error.code
    return ""


def test_memory_is_that_of_one_vector_whatever_the_number(federate):
    layout = Layout((Segment("w", (1 << 20,), 16, 1.0, 2**-10),))
    fed = federate(8).set_up()
    _, terms, uploads = summed(fed, layout)
    tracemalloc.start()
    opened = recompute(fed.roster, terms, uploads)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the total (2 B a parameter), one unpacked copy (2 B), two float64 (16 B): one upload more would be 2 B more
    assert peak < 24 * layout.segments[0].size
    assert np.isfinite(opened["w"]).all()
