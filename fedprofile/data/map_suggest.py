"""A first draft of map.yaml: which column of a partner's table may be which of the contract, and how it is written.

Names decide, cells confirm. A cell is never shown: the draft holds column names, units, date forms, and codes of
theirs only where these are another spelling or a first letter of the contract's own.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fedprofile.data.columns import texts
from fedprofile.data.contract import Column, Contract
from fedprofile.data.contract_cells import Reading, read_cells
from fedprofile.data.units import UNITS, hinted, relatives
from fedprofile.errors import DataError

if TYPE_CHECKING:
    import polars as pl

# Below the first a name is no candidate, from the second on it may decide; cells must fit to this share.
_LIKE, _SURE, _FITS = 0.5, 0.72, 0.9
_CLOSE = 0.05
_SAMPLE, _MAX_LEVELS = 5000, 200
_FORMS = ("%Y/%m/%d", "%Y%m%d", "%Y.%m.%d", "%Y年%m月%d日", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_A-Za-z]+")


@dataclass(frozen=True)
class Draft:
    """``id``: their likely id column, "" for none. readings as in TableMap. notes: contract column -> what to do."""

    id: str
    readings: Mapping[str, Reading]
    absent: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """map.yaml; what is not decided stands in comments, so that ``node map`` asks for it."""
        import yaml

        columns = {name: _entry(reading) for name, reading in self.readings.items()}
        lines = ["# Drafted by `fedprofile node map HOME --suggest`. Read every line, then: fedprofile node map"]
        lines += [f"# {name or 'id'}: {note}" for name, note in self.notes.items()]
        body = {"format": 1, "id": self.id or "?", "columns": columns, "absent": list(self.absent)}
        text = yaml.safe_dump(body, allow_unicode=True, sort_keys=False, default_flow_style=None, width=10_000)
        return "\n".join(lines) + "\n" + text


def suggest(frame: pl.DataFrame, contract: Contract, file: str, today: date) -> Draft:
    """A draft for a table with the columns of ``frame``, each as it was read."""
    from scipy.optimize import linear_sum_assignment

    frame = frame.head(_SAMPLE)
    id_column, notes = _id(frame, contract, file), {}
    theirs = [c for c in frame.columns if c != id_column]
    likeness = np.array([[name_likeness(c, their) for their in theirs] for c in contract.columns])
    if not theirs:
        likeness = np.zeros((len(contract.columns), 1))
    rows, places = linear_sum_assignment(-likeness)
    taken = dict(zip(rows.tolist(), places.tolist(), strict=True))
    settled = {j for i, j in taken.items() if likeness[i, j] >= _SURE}
    readings, absent = {}, []
    for i, column in enumerate(contract.columns):
        best = likeness[i, taken[i]] if i in taken else 0.0
        near = [theirs[j] for j in np.argsort(-likeness[i], kind="stable") if likeness[i, j] >= _LIKE]
        near = [name for name in near if theirs.index(name) not in settled - {taken.get(i)}][:3]
        rival = [j for j in np.flatnonzero(likeness[i] > best - _CLOSE) if j != taken.get(i) and best < 1]
        if best < _SURE or rival:
            if near:
                notes[column.name] = f"not decided; perhaps {', '.join(map(repr, near))}"
            elif column.missing == 1:
                absent.append(column.name)
            else:
                notes[column.name] = "no column has such a name: map it, or list it under `absent`"
            continue
        reading, note = _written(frame[theirs[taken[i]]], column, file, today)
        readings[column.name] = reading
        if note:
            notes[column.name] = note
    if not id_column:
        notes[""] = "no column is unique and filled like an id of the contract: write its name"
    return Draft(id_column, readings, tuple(absent), notes)


def name_likeness(column: Column, theirs: str) -> float:
    """0 to 1: how alike the contract's name, or one of its aliases, and a column's name are; 1 for the same words.

    Words that only say the unit (age_months) may be left out.
    """
    units = {w for u in relatives(column.unit) for w in UNITS[u][2]}

    def kinds(name: str) -> set[tuple[str, ...]]:
        return {words(name), tuple(w for w in words(name) if w not in units)}

    names = (column.name, *column.aliases)
    return max(_alike(a, b) for name in names for a in kinds(name) for b in kinds(theirs))


def _alike(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    if not a or not b:
        return 0.0
    shared = len(set(a) & set(b)) / len(set(a) | set(b))
    matcher = difflib.SequenceMatcher(None, "".join(a), "".join(b), autojunk=False)
    # The bound is cheap, and most pairs of a wide table have nothing in common.
    joined = matcher.ratio() if shared or matcher.quick_ratio() > _SURE else 0.0
    # Numbers tell columns of one family apart: reading 1 is never reading 2.
    digits = [[w for w in ws if w.isdigit()] for ws in (a, b)]
    cap = 1.0 if digits[0] == digits[1] else 0.7
    return min(cap, 1.0 if a == b else max(shared, 0.4 * shared + 0.6 * joined))


@cache
def words(name: str) -> tuple[str, ...]:
    """The words of a name in small letters: camelCase, under_scores and digits taken apart."""
    return tuple(w.lower() for w in _WORD.findall(unicodedata.normalize("NFKC", name)))


def _id(frame: pl.DataFrame, contract: Contract, file: str) -> str:
    import polars as pl

    form = f"^(?:{contract.id.pattern})$" if contract.id.pattern else "^[0-9]+$"
    best, found = 0.0, ""
    for name in frame.columns:
        series = frame[name]
        if (
            series.dtype.is_nested()
            or series.dtype.is_float()
            or series.dtype.is_temporal()
            or series.dtype == pl.Binary
        ):
            continue
        if pl.Series([name.upper()]).str.contains(form).item():
            continue  # a first row of cells, not of names: this one would be a customer's id
        cells = texts(series, file)
        unique = cells.drop_nulls().n_unique() / len(cells)
        fits = 1.0
        if contract.id.pattern:
            matched = cells.str.to_uppercase().str.contains(form)
            fits = float(matched.fill_null(False).to_numpy().mean())
        score = min(unique, fits) + 0.1 * _alike(words(contract.id.name), words(name))
        if min(unique, fits) >= _FITS and score > best:
            best, found = score, name
    return found


def _written(raw: pl.Series, column: Column, file: str, today: date) -> tuple[Reading, str]:
    """How the column seems to be written, and what the author must still look at."""
    plain = Reading(raw.name)
    try:
        if column.numeric:
            return _number(raw, column, plain, file, today)
        if column.type == "date":
            return _date(raw, column, plain, file, today)
        return _category(raw, column, plain, file, today)
    except DataError:
        return plain, "its type in the table holds no such cells"


def _fit(raw: pl.Series, column: Column, how: Reading, file: str, today: date) -> float:
    """Share of cells without a reason; emptiness and age are not judged."""
    lenient = replace(column, missing=1.0, max_age_days=None)
    return float(read_cells(raw, lenient, how, file, today)[1].is_null().to_numpy().mean())


def _number(raw: pl.Series, column: Column, plain: Reading, file: str, today: date) -> tuple[Reading, str]:
    grouped = replace(plain, thousands=True)
    if _fit(raw, column, grouped, file, today) > _fit(raw, column, plain, file, today):
        plain = grouped
    named = hinted(set(words(raw.name)), column.unit) if column.unit else ""
    if named and named != column.unit:
        how = _rounded(replace(plain, unit=named), column)
        return how, f"the name says {named}: check it" + (_also(how) if how.round else "")
    fit = _fit(raw, column, plain, file, today)
    if fit >= _FITS:
        return plain, "" if fit == 1 else "some cells do not fit: `node check` counts them"
    others = [_rounded(replace(plain, unit=u), column) for u in relatives(column.unit)[1:]]
    better = [o for o in others if _fit(raw, column, o, file, today) >= _FITS]
    if len(better) == 1:
        return better[0], f"only in {better[0].unit} do the cells lie in the range: check it{_also(better[0])}"
    return plain, f"{1 - fit:.0%} of the cells do not fit: set `unit`, `missing` or `thousands`"


def _rounded(how: Reading, column: Column) -> Reading:
    return replace(how, round="down") if column.type == "integer" else how


def _also(how: Reading) -> str:
    return "; parts are rounded down" if how.round else ""


def _date(raw: pl.Series, column: Column, plain: Reading, file: str, today: date) -> tuple[Reading, str]:
    if _fit(raw, column, plain, file, today) >= _FITS:
        return plain, ""
    forms = [f for f in _FORMS if _fit(raw, column, replace(plain, date=f), file, today) >= _FITS]
    if len(forms) == 1:
        return replace(plain, date=forms[0]), ""
    what = f"days and months may be in either order ({' or '.join(forms)})" if forms else "no common form fits"
    return plain, f"{what}: set `date`"


def _category(raw: pl.Series, column: Column, plain: Reading, file: str, today: date) -> tuple[Reading, str]:
    if not column.codes:
        return plain, ""
    levels = texts(raw, file).drop_nulls().unique().sort()
    known = {*column.codes, *column.unknown}
    strange = [level for level in levels.head(_MAX_LEVELS).to_list() if level not in known]
    if len(levels) > _MAX_LEVELS:
        return plain, f"more than {_MAX_LEVELS} levels, and the contract has {len(column.codes)} codes"
    codes = {level: code for level in strange if (code := _same_code(level, column.codes))}
    left = len(strange) - len(codes)
    note = f"{left} levels are no code of the contract: write them under `codes` or `missing`" if left else ""
    return replace(plain, codes=codes), note or ("codes were matched by spelling: check them" if codes else "")


def _same_code(level: str, codes: tuple[str, ...]) -> str:
    """The one code of which ``level`` is another spelling, or the first letters; "" where none or several are."""
    mine = _folded(level)
    same = [c for c in codes if _folded(c) == mine]
    found = same or [c for c in codes if mine and _folded(c).startswith(mine)]
    return found[0] if len(found) == 1 else ""


def _folded(text: str) -> str:
    return "".join(words(text))


def _entry(reading: Reading) -> dict[str, Any]:
    entry: dict[str, Any] = {"from": reading.column}
    for key in ("unit", "codes", "missing", "date", "thousands", "round"):
        value = getattr(reading, key)
        if value:
            entry[key] = list(value) if key == "missing" else dict(value) if key == "codes" else value
    return entry
