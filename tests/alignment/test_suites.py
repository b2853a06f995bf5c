import hashlib
import hmac

import pytest

from fedprofile.alignment.curve import scalar
from fedprofile.alignment.suites import SUITES
from fedprofile.types import digest

MESSAGES = [b"\1C00001", "\1张三".encode()]
ONE, TWO = scalar(b"\1" * 32), scalar(b"\2" * 32)


@pytest.mark.parametrize("name", SUITES)
def test_what_is_unblinded_is_the_owners_value(name):
    suite = SUITES[name]
    evaluated = suite.evaluate(suite.blind(MESSAGES, ONE), TWO)
    assert suite.unblind(evaluated, ONE) == suite.own(MESSAGES, TWO)
    assert suite.own(MESSAGES, ONE) != suite.own(MESSAGES, TWO)


def test_psi_shows_another_list_under_another_key_and_plain_the_same():
    shown = {name: SUITES[name].blind(MESSAGES, ONE) == SUITES[name].blind(MESSAGES, TWO) for name in SUITES}
    assert shown == {"psi": False, "plain": True, "union": False}


def test_plain_is_a_hash_and_a_mac():
    point = digest("alignment-plain/1", MESSAGES[0])
    assert SUITES["plain"].blind(MESSAGES[:1], 9) == point
    assert SUITES["plain"].evaluate(point, 9) == hmac.digest((9).to_bytes(32, "big"), point, hashlib.sha256)


@pytest.mark.parametrize("name", SUITES)
def test_points_have_one_length(name, code_of):
    assert code_of(lambda: SUITES[name].evaluate(bytes(33), 3)) == "wrong_length"


def test_a_letter_says_which_it_is():
    assert len({suite.number for suite in SUITES.values()}) == len(SUITES)
