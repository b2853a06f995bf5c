import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprofile.alignment.hashing import cross_fit_fold, member_of, row_order, split_bucket, uniform

MANY = np.array([f"C{i:05d}" for i in range(10_000)])
FEW = st.lists(st.text(min_size=1, max_size=8).filter(lambda s: "\0" not in s), min_size=1, unique=True, max_size=20)


def test_the_split_is_the_documented_hash():
    expected = int(hashlib.sha256(b"fedprofile/split/1/C00007").hexdigest(), 16) % 100
    assert split_bucket(np.array(["C00007"])).tolist() == [expected]
    assert uniform(np.array(["x"]), "s")[0] == int(hashlib.sha256(b"s|x").hexdigest()[:12], 16) / 2**48


def test_splits_are_sixty_twenty_twenty_and_independent_of_folds():
    bucket = split_bucket(MANY)
    shares = [(bucket < 60).mean(), ((bucket >= 60) & (bucket < 80)).mean(), (bucket >= 80).mean()]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.02)
    fold = cross_fit_fold(MANY, 3)
    assert np.bincount(fold[bucket < 60]) / (bucket < 60).sum() == pytest.approx(1 / 3, abs=0.03)


@given(FEW)
def test_every_customer_is_test_in_exactly_one_fold_and_validation_in_another(ids):
    buckets = np.array([split_bucket(np.array(ids), fold) for fold in range(5)])
    assert ((buckets >= 80).sum(0) == 1).all()
    assert (((buckets >= 60) & (buckets < 80)).sum(0) == 1).all()


@given(FEW, st.integers(1, 7), st.randoms())
def test_what_is_computed_of_a_customer_does_not_depend_on_the_others(ids, parts, random):
    ids = np.array(ids)
    order = np.array(random.sample(range(len(ids)), len(ids)))
    for of in (split_bucket, lambda i: cross_fit_fold(i, parts), lambda i: member_of(i, "tax", parts)):
        assert (of(ids[order]) == of(ids)[order]).all()
    assert (cross_fit_fold(ids, parts) < parts).all()


def test_members_are_even_and_differ_by_role():
    tax, shop = member_of(MANY, "tax", 3), member_of(MANY, "shop", 3)
    assert np.bincount(tax) / len(MANY) == pytest.approx(1 / 3, abs=0.02)
    assert (tax == shop).mean() == pytest.approx(1 / 3, abs=0.02)


@given(FEW, st.randoms())
def test_rows_are_ordered_by_a_public_hash_however_they_are_stored(ids, random):
    shuffled = np.array(random.sample(ids, len(ids)))
    ids = np.array(ids)
    assert ids[row_order(ids)].tolist() == shuffled[row_order(shuffled)].tolist()
    expected = sorted(ids.tolist(), key=lambda i: hashlib.sha256(b"fedprofile/row/1" + i.encode()).digest())
    assert ids[row_order(ids)].tolist() == expected


def test_no_customers_is_no_error():
    none = np.array([], dtype=np.str_)
    assert len(split_bucket(none)) == len(cross_fit_fold(none, 3)) == len(row_order(none)) == 0
