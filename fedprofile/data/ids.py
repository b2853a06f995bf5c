"""Customer ids: the one rule by which every party writes them, and what an id column must not hold."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fedprofile.errors import DataError

_DIGITS = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"[+-]?[0-9]+\.[0-9]+")
_WHOLE = re.compile(r"([0-9]+)\.0+")
_SCIENTIFIC = re.compile(r"[0-9](\.[0-9]+)?E\+?[0-9]+")
_CHECK_X = re.compile(r"[0-9]+X")
_FIXED_WIDTH = 8


def normalise_ids(ids: Iterable[str]) -> npt.NDArray[np.str_]:
    """Ids as all parties compare them: (n,) unicode.

    The rule: Unicode NFKC (full-width digits and letters become ASCII), invisible format characters (zero-width
    space, byte order mark) removed, upper case, white space at both ends removed; repeated until nothing changes.
    Inner spaces, punctuation and leading zeros are part of the id.
    """
    return np.array([normalise_id(i) for i in ids], dtype=np.str_)


def normalise_id(text: str) -> str:
    """One id by the rule of ``normalise_ids``."""
    if text.isascii():
        return text.strip().upper()
    while (step := _normal_step(text)) != text:
        text = step
    return text


def _normal_step(text: str) -> str:
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", visible).upper().strip()


def check_ids(raw: Sequence[str | None], file: str, column: str) -> npt.NDArray[np.str_]:
    """Normalised, unique ids of one table: (n,) unicode.

    A column of whole numbers written as decimals (1.0, 2.0: what some tools make of numbers) is read as whole
    numbers. Raises DataError for missing ids, ids of mixed types, fractional or scientific numbers, duplicates.
    """
    ids = ["" if i is None else normalise_id(i) for i in raw]
    missing = ids.count("")
    if missing:
        raise DataError(file, "ids are missing", "Give every row an id or remove it.", column=column, count=missing)
    ids = _check_types(ids, file, column)
    doubled = len(ids) - len(set(ids))
    if doubled:
        mend = "Keep one row per customer; ids that differ only in case, width or outer spaces are the same."
        raise DataError(file, "duplicate ids", mend, column=column, count=doubled)
    return np.array(ids, dtype=np.str_)


def _check_types(ids: list[str], file: str, column: str) -> list[str]:
    as_text = "Export the id column as text, the same in every table."
    digits = sum(_DIGITS.fullmatch(i) is not None for i in ids)
    if digits == len(ids):
        return ids
    scientific = sum(_SCIENTIFIC.fullmatch(i) is not None for i in ids)
    if scientific and not _same_width(ids):
        raise DataError(file, "ids in scientific notation have lost digits", as_text, column=column, count=scientific)
    decimals = sum(_DECIMAL.fullmatch(i) is not None for i in ids)
    if decimals and digits + decimals == len(ids):
        fractional = sum(_DECIMAL.fullmatch(i) is not None and _WHOLE.fullmatch(i) is None for i in ids)
        if fractional:
            raise DataError(file, "ids are fractional numbers", as_text, column=column, count=fractional)
        return [i.partition(".")[0] for i in ids]
    numbers = digits + decimals
    if numbers and (decimals or not _one_code(ids)):
        few = min(numbers, len(ids) - numbers)
        raise DataError(file, "ids of mixed types, some numbers and some text", as_text, column=column, count=few)
    return ids


def _one_code(ids: list[str]) -> bool:
    # Codes of letters and digits may happen to have digits only (hex tokens, credit codes), and a national
    # identity number ends in a digit or the check character X: neither is a mix of types.
    return _same_width(ids) or all(_DIGITS.fullmatch(i) or _CHECK_X.fullmatch(i) for i in ids)


def _same_width(ids: list[str]) -> bool:
    return len(ids[0]) >= _FIXED_WIDTH and len({len(i) for i in ids}) == 1 and all(i.isalnum() for i in ids)
