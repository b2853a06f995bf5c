import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.errors import RemoteProtocolError
from fedprofile.privacy.sealing import SEAL_OVERHEAD, LabelRelease, seal, unseal
from fedprofile.types import Task

TASKS = (Task("tier", "ordinal", 3), Task("invest", "binary", 2))
KEY = X25519PrivateKey.from_private_bytes(b"\7" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
RUN = b"\1" * 32


@st.composite
def releases(draw):
    m = draw(st.integers(0, 9))
    labels = {
        t.name: np.array(draw(st.lists(st.integers(-1, t.classes - 1), min_size=m, max_size=m)), np.int64)
        for t in TASKS
    }
    slots = np.array(draw(st.lists(st.integers(0, 2**32 - 1), min_size=m, max_size=m)), np.int64)
    priors = {"tier": (0.5, 0.25, 0.25), "invest": (0.9, 0.1)}
    return LabelRelease(slots, labels, priors, draw(st.none() | st.floats(0.1, 8)))


@given(releases())
def test_a_release_survives_its_encoding(release):
    again = LabelRelease.decode(release.encode(TASKS), TASKS)
    assert again.slots.tolist() == release.slots.tolist()
    assert {k: v.tolist() for k, v in again.labels.items()} == {k: v.tolist() for k, v in release.labels.items()}
    assert (again.priors, again.eps) == (release.priors, release.eps)


def read(data):
    """The release, or the code with which it is refused."""
    try:
        return LabelRelease.decode(data, TASKS)
    except RemoteProtocolError as error:
        return error.code


@given(releases(), st.data())
def test_a_release_that_does_not_fit_is_refused_not_crashed_on(release, data):
    whole = release.encode(TASKS)
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    for broken in (whole[:-1], whole + b"\0", bytes(changed), data.draw(st.binary(max_size=20))):
        found = read(broken)
        if found != "bad_release":
            assert all(((found.labels[t.name] >= -1) & (found.labels[t.name] < t.classes)).all() for t in TASKS)
    assert read(whole[:-1]) == "bad_release"


@pytest.mark.parametrize(
    "head", [b"[]", b"{}", b'{"eps":1,"m":1e999,"priors":{}}', b'{"eps":1,"m":0,"priors":{"tier":[1],"invest":[1]}}']
)
def test_a_head_that_does_not_fit_is_refused(head):
    assert read(len(head).to_bytes(4, "big") + head) == "bad_release"


@given(st.binary(max_size=50))
def test_sealing_opens_for_its_party_run_and_key_alone(plain):
    sealed = seal(plain, PUBLIC, RUN, "tax")
    assert len(sealed) == len(plain) + SEAL_OVERHEAD
    assert unseal(sealed, KEY, RUN, "tax") == plain
    other = X25519PrivateKey.from_private_bytes(b"\x08" * 32)
    for key, run, party in ((other, RUN, "tax"), (KEY, b"\2" * 32, "tax"), (KEY, RUN, "shop")):
        with pytest.raises(RemoteProtocolError) as error:
            unseal(sealed, key, run, party)
        assert error.value.code == "bad_release"


def test_what_was_sealed_as_one_thing_does_not_open_as_another():
    for what, as_other, code in (("release", "alignment", "bad_alignment"), ("alignment", "release", "bad_release")):
        sealed = seal(b"x", PUBLIC, RUN, "tax", what)
        assert unseal(sealed, KEY, RUN, "tax", what) == b"x"
        with pytest.raises(RemoteProtocolError) as error:
            unseal(sealed, KEY, RUN, "tax", as_other)
        assert error.value.code == code


SEALED = seal(b"labels of nobody", PUBLIC, RUN, "tax")


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_flipped_byte_and_any_cut_is_refused(at, flip):
    changed = bytearray(SEALED)
    changed[at] ^= flip
    for broken in (bytes(changed), SEALED[:at]):
        with pytest.raises(RemoteProtocolError) as error:
            unseal(broken, KEY, RUN, "tax")
        assert error.value.code == "bad_release"


def test_sealing_twice_gives_different_bytes():
    assert seal(b"x", PUBLIC, RUN, "tax") != seal(b"x", PUBLIC, RUN, "tax")


def test_the_repr_shows_no_label():
    release = LabelRelease(np.array([4711]), {"tier": np.array([4712])}, {}, 2.0)
    assert "471" not in repr(release)
