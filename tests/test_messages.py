import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.errors import LocalProtocolError, RemoteProtocolError
from fedprofile.messages import DOWNWARD, MAGIC, MAX_BODY, MAX_PARTS, MEANING, PENDING, REPLY_TO, UPWARD, Envelope
from fedprofile.secagg.wire import MAX_MEMBERS

VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
BODIES = st.dictionaries(st.text(max_size=6), VALUES | st.text(max_size=6), max_size=4)


def raw(type_: str, body: bytes, parts: tuple[bytes, ...] = ()) -> bytes:
    """The bytes of a message, with nothing checked."""
    head = MAGIC + bytes([len(type_)]) + type_.encode() + len(body).to_bytes(4, "big") + body
    return head + len(parts).to_bytes(2, "big") + b"".join(len(p).to_bytes(8, "big") + p for p in parts)


@st.composite
def envelopes(draw):
    type_ = draw(st.sampled_from([*DOWNWARD, *UPWARD]))
    limit = min(UPWARD.get(type_, 3), 3)
    return Envelope(type_, draw(BODIES), tuple(draw(st.lists(st.binary(max_size=9), max_size=limit))))


def read(data: bytes) -> Envelope | str:
    """The message, or the code with which it is refused."""
    try:
        return Envelope.decode(data)
    except RemoteProtocolError as error:
        return error.code


def refused(data: bytes) -> None:
    assert read(data) == "bad_envelope"


@given(envelopes())
def test_what_is_encoded_is_decoded(envelope):
    assert Envelope.decode(envelope.encode()) == envelope


@given(envelopes(), st.data())
def test_cut_or_lengthened_messages_are_refused(envelope, data):
    whole = envelope.encode()
    refused(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(whole + data.draw(st.binary(min_size=1, max_size=4)))


@given(envelopes(), st.data())
def test_one_message_has_one_encoding_whatever_is_flipped(envelope, data):
    changed = bytearray(envelope.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    again = read(bytes(changed))
    assert again == "bad_envelope" or again.encode() == changed


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1,"a":1}', b'{"a":1.00}', b'"a"', b"[]", b"", b"{", b"\xff",
        b'{"a":NaN}', b'{"a":Infinity}', b'{"a":"\\ud800"}', b'{"a":"\\u0041"}', b'{"a":' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_body_in_any_other_writing_is_refused(body):
    refused(raw("plan", body))


def test_a_body_nested_without_end_is_refused():
    refused(raw("plan", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


@pytest.mark.parametrize("type_", ["", "embedding", "Plan", "plan\0"])
def test_unknown_types_are_neither_sent_nor_read(type_):
    with pytest.raises(LocalProtocolError) as error:
        Envelope(type_).encode()
    assert error.value.code == "unknown_message"
    refused(raw(type_, b"{}"))


@pytest.mark.parametrize("type_", UPWARD)
def test_a_reply_holds_no_more_than_its_parts_and_four_kib(type_):
    parts = (b"x",) * (UPWARD[type_] + 1)
    long = {"text": "x" * MAX_BODY}
    for envelope in (Envelope(type_, {}, parts), Envelope(type_, long)):
        with pytest.raises(LocalProtocolError) as error:
            envelope.encode()
        assert error.value.code == "message_too_large"
    Envelope(type_, {"t": "x" * (MAX_BODY - len('{"t":""}'))}, parts[1:]).encode()


@pytest.mark.parametrize("type_", UPWARD)
def test_an_oversized_reply_is_refused_where_it_arrives(type_):
    refused(raw(type_, b'{"text":"' + b"x" * MAX_BODY + b'"}'))
    refused(raw(type_, b"{}", (b"x",) * (UPWARD[type_] + 1)))


def test_a_message_has_room_for_a_part_of_every_member():
    labels = Envelope("labels", parts=(b"",) * MAX_MEMBERS)
    assert Envelope.decode(labels.encode()) == labels


def test_no_message_holds_more_than_the_greatest_number_of_parts():
    refused(raw("plan", b"{}", (b"",) * (MAX_PARTS + 1)))


def test_every_request_has_a_reply_and_no_type_goes_both_ways():
    assert set(REPLY_TO) == set(DOWNWARD)
    assert set(REPLY_TO.values()) | {"error", PENDING} == set(UPWARD)
    assert not set(DOWNWARD) & set(UPWARD)


def test_the_repr_shows_no_part():
    assert "secret" not in repr(Envelope("uploads", {}, (b"secret",)))


def test_whatever_may_leave_is_explained():
    assert MEANING.keys() == UPWARD.keys()
