import os

from hypothesis import given
from hypothesis import strategies as st

from fedprofile.node.randomness import keystream_source, session_source


@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(0, 40), max_size=6))
def test_a_keystream_does_not_depend_on_how_it_is_drawn(key, sizes):
    source = keystream_source(key)
    assert b"".join(source(n) for n in sizes) == keystream_source(key)(sum(sizes))


def test_the_keystream_is_aes_256_ctr():
    # FIPS 197, C.3 has another plaintext; this is AES-256 of the zero block under the zero key.
    assert keystream_source(bytes(32))(16).hex() == "dc95c078a2408989ad48a21492842087"
    assert keystream_source(b"\1" * 32)(16) != keystream_source(bytes(32))(16)


def test_real_secrets_come_from_the_system():
    assert session_source(None) is os.urandom
    assert session_source(bytes(32))(4) == keystream_source(bytes(32))(4)
