"""One raw column to typed values, with a reason for every cell that cannot be taken as it is written.

Nothing is coerced in silence: full-width digits, thousands separators, formulas and dates of another form are
refused by cell, unless the map declares the form. Text is compared after white space at its ends is gone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from fedprofile.data.columns import texts
from fedprofile.data.contract import Column
from fedprofile.data.units import factor
from fedprofile.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

MAX_CELL = 1024
_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?$"
_GROUPED = r"^[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?$"
_SAYS_INFINITE = r"(?i)^[+-]?inf(?:inity)?$"
# What a spreadsheet would compute, and what it writes where it could not.
_FORMULA = r"^(?:[=@]|[+-][^0-9.]|#(?:REF|DIV/0|VALUE|NAME|NUM|NULL|SPILL|CALC)[!?]?)"
_ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
_FORM = re.compile(r"%[YmdHMS]|[^%]")
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f\x{fffd}]"
_EXACT = 2**53
Rounding = Literal["", "down", "nearest"]


@dataclass(frozen=True)
class Reading:
    """How one column of a partner's table is written: what ``map.yaml`` says of it.

    unit: "" is the contract's. codes: theirs -> the contract's. missing: further cells that mean "not known".
    date: strptime form, "" is ISO. thousands: numbers are written 1,234.5. round: what becomes of parts of an integer.
    """

    column: str
    unit: str = ""
    codes: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    date: str = ""
    thousands: bool = False
    round: Rounding = ""


def read_cells(raw: pl.Series, column: Column, how: Reading, file: str, today: date) -> tuple[pl.Series, pl.Series]:
    """(values, reasons) of one column: Float64, String or Date; a reason is a fixed code, null where the cell is fine.

    A cell with a reason has no value. Raises DataError for a column of a type that holds no such cells at all.
    """
    import polars as pl

    if raw.dtype == pl.Null:
        raw = raw.cast(pl.String)
    if raw.dtype.is_nested() or raw.dtype in (pl.Binary, pl.Object, pl.Time, pl.Duration):
        raise _wrong_type(raw, column, file)
    if column.numeric:
        values, reasons = _numbers(raw, column, how, file)
    elif column.type == "date":
        values, reasons = _dates(raw, column, how, file, today)
    else:
        values, reasons = _codes(raw, column, how, file)
    checked = pl.DataFrame({"value": values, "reason": reasons})
    value, reason = pl.col("value"), pl.col("reason")
    if column.missing == 0:
        # The column must be filled: an empty cell is as wrong as an ill-written one.
        empty = reason.is_null() & value.is_null()
        checked = checked.with_columns(reason=pl.when(empty).then(pl.lit("missing")).otherwise(reason))
    checked = checked.with_columns(value=pl.when(reason.is_null()).then(value))
    return checked["value"].alias(column.name), checked["reason"]


def _numbers(raw: pl.Series, column: Column, how: Reading, file: str) -> tuple[pl.Series, pl.Series]:
    import polars as pl

    if raw.dtype.is_temporal():
        raise _wrong_type(raw, column, file)
    if raw.dtype == pl.String:
        values, reasons = _parsed(raw, column, how)
    else:
        reasons = pl.select(pl.when(raw.cast(pl.Float64).is_infinite()).then(pl.lit("infinite"))).to_series()
        if raw.dtype.is_integer():
            lost = raw.cast(pl.Int128).abs() > _EXACT
            reasons = pl.select(pl.when(lost).then(pl.lit("too_large")).otherwise(reasons)).to_series()
        values = raw.cast(pl.Float64).fill_nan(None)
    converted = bool(how.unit) and how.unit != column.unit
    # The contract's codes for "not known" are in its own unit: 999 months are no unknown age.
    unknown = [float(u) for u in (*how.missing, *(() if converted else column.unknown)) if _is_number(u)]
    value: Any = pl.when(~pl.col("v").is_in(unknown)).then(pl.col("v"))
    if converted:
        times = factor(how.unit, column.unit)
        assert times is not None  # the map was checked against the contract
        value = value * times
    if how.round:
        value = value.floor() if how.round == "down" else value.round()
    frame = pl.DataFrame({"v": values, "r": reasons}).with_columns(v=value)
    v, r = pl.col("v"), pl.col("r")
    # A long product such as 2540 * 0.01 may leave a range by its last digit: compare as written, to 12 digits.
    shown = v.round_sig_figs(12)
    reason: Any = pl.when(r.is_not_null()).then(r)
    if column.type == "integer":
        reason = reason.when(shown != shown.floor()).then(pl.lit("not_whole"))
    if column.low is not None:
        reason = reason.when(shown < column.low).then(pl.lit("below_range"))
    if column.high is not None:
        reason = reason.when(shown > column.high).then(pl.lit("above_range"))
    frame = frame.select(v, reason.alias("r"))
    return frame["v"], frame["r"]


def _parsed(raw: pl.Series, column: Column, how: Reading) -> tuple[pl.Series, pl.Series]:
    import polars as pl

    text = pl.col("t")
    gone = [*how.missing, *(u for u in column.unknown if not _is_number(u))]  # codes that are numbers: in their unit
    frame = pl.DataFrame({"t": raw}).with_columns(pl.when(~text.is_in(gone)).then(text).alias("t"))
    written = text
    if how.thousands:
        written = pl.when(text.str.contains(_GROUPED)).then(text.str.replace_all(",", "")).otherwise(text)
    frame = frame.with_columns(pl.when(written.str.contains(_NUMBER)).then(written).cast(pl.Float64).alias("v"))
    v, folded = pl.col("v"), text.str.normalize("NFKC")
    reason = (
        pl.when(text.is_null() | v.is_finite())
        .then(None)
        .when(text.str.len_chars() > MAX_CELL)
        .then(pl.lit("too_long"))
        .when(v.is_infinite() | text.str.contains(_SAYS_INFINITE))
        .then(pl.lit("infinite"))
        .when(text.str.contains(_FORMULA))
        .then(pl.lit("formula"))
        .when(text.str.contains(_GROUPED))
        .then(pl.lit("thousands_separator"))
        .when((folded != text) & (folded.str.contains(_NUMBER) | folded.str.contains(_GROUPED)))
        .then(pl.lit("full_width"))
        .otherwise(pl.lit("not_a_number"))
    )
    frame = frame.select(v, reason.alias("r"))
    return frame["v"], frame["r"].cast(pl.String)


def _codes(raw: pl.Series, column: Column, how: Reading, file: str) -> tuple[pl.Series, pl.Series]:
    import polars as pl

    if raw.dtype.is_temporal():
        raise _wrong_type(raw, column, file)
    text = pl.col("t")
    gone = [*how.missing, *column.unknown]
    frame = pl.DataFrame({"t": texts(raw, file)}).with_columns(pl.when(~text.is_in(gone)).then(text).alias("t"))
    if how.codes:
        frame = frame.with_columns(text.replace_strict(dict(how.codes), default=text, return_dtype=pl.String))
    reason: Any = pl.when(text.str.len_chars() > MAX_CELL).then(pl.lit("too_long"))
    if column.codes:
        reason = reason.when(~text.is_in(list(column.codes))).then(pl.lit("unknown_code"))
    else:
        reason = reason.when(text.str.contains(_FORMULA)).then(pl.lit("formula"))
        reason = reason.when(text.str.contains(_CONTROL)).then(pl.lit("control_character"))
    frame = frame.select(text, reason.alias("r"))
    return frame["t"], frame["r"]


def _dates(raw: pl.Series, column: Column, how: Reading, file: str, today: date) -> tuple[pl.Series, pl.Series]:
    import polars as pl

    if raw.dtype == pl.String:
        text = pl.col("t")
        gone = [*how.missing, *column.unknown]
        frame = pl.DataFrame({"t": raw}).with_columns(pl.when(~text.is_in(gone)).then(text).alias("t"))
        shape, form, length = (date_shape(how.date), how.date, None) if how.date else (_ISO, "%Y-%m-%d", 10)
        parsed: Any = pl.when(text.str.contains(shape)).then(text.str.slice(0, length))
        # Through a date and time where the form has both; the day is what counts.
        parsed = parsed.str.to_datetime(form, strict=False) if "%H" in form else parsed.str.to_date(form, strict=False)
        frame = frame.with_columns(v=parsed.cast(pl.Date))
        late = pl.when(text.str.len_chars() > MAX_CELL).then(pl.lit("too_long"))
        refused = late.when(text.is_not_null() & pl.col("v").is_null()).then(pl.lit("not_a_date"))
        frame = frame.with_columns(refused.alias("r"))
    elif raw.dtype in (pl.Date, pl.Datetime):
        if getattr(raw.dtype, "time_zone", None):
            raw = raw.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        frame = pl.DataFrame({"v": raw.cast(pl.Date)}).with_columns(r=pl.lit(None, dtype=pl.String))
    else:
        raise _wrong_type(raw, column, file)
    v, r = pl.col("v"), pl.col("r")
    reason: Any = pl.when(r.is_not_null()).then(r)
    if column.low is not None:
        reason = reason.when(v < date.fromisoformat(str(column.low))).then(pl.lit("below_range"))
    if column.high is not None:
        reason = reason.when(v > date.fromisoformat(str(column.high))).then(pl.lit("above_range"))
    else:
        reason = reason.when(v > today).then(pl.lit("in_future"))
    if column.max_age_days is not None:
        reason = reason.when(v < today - pl.duration(days=column.max_age_days)).then(pl.lit("stale"))
    frame = frame.select(v, reason.alias("r"))
    return frame["v"], frame["r"]


def date_shape(form: str) -> str:
    """A regular expression for texts of a strptime form of %Y %m %d %H %M %S: the parser alone takes year 26 for 26."""
    parts = (f"[0-9]{{{4 if p[1] == 'Y' else '1,2'}}}" if p[0] == "%" else re.escape(p) for p in _FORM.findall(form))
    return f"^{''.join(parts)}$"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _wrong_type(raw: pl.Series, column: Column, file: str) -> DataError:
    what = f"cells of type {raw.dtype.base_type().__name__} cannot be of type {column.type}"
    return DataError(file, what, "Export the column as the contract has it.", column=raw.name)
