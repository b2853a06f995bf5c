"""The fixed table of units: what a map may turn into what, and the words by which a column's name hints at one."""

from __future__ import annotations

from fractions import Fraction

# unit: (quantity, how many base units it is, words in a column's name). Currencies are quantities of their own: no
# table of units knows an exchange rate. Months and years are calendar means (a year is 365.25 days, 12 months).
_YEAR = Fraction("365.25")
UNITS: dict[str, tuple[str, Fraction, tuple[str, ...]]] = {
    "CNY": ("CNY", Fraction(1), ("cny", "rmb", "yuan", "元")),
    "fen": ("CNY", Fraction(1, 100), ("fen", "cents", "分")),
    "1k CNY": ("CNY", Fraction(1000), ("千元",)),
    "10k CNY": ("CNY", Fraction(10_000), ("wan", "万元", "万")),
    "1M CNY": ("CNY", Fraction(1_000_000), ("百万元",)),
    "100M CNY": ("CNY", Fraction(100_000_000), ("亿元", "亿")),
    "USD": ("USD", Fraction(1), ("usd", "dollars")),
    "1k USD": ("USD", Fraction(1000), ("kusd",)),
    "years": ("time", _YEAR, ("years", "year", "yrs", "年", "岁", "周岁")),
    "months": ("time", _YEAR / 12, ("months", "month", "mths", "月", "月数")),
    "weeks": ("time", Fraction(7), ("weeks", "week", "周")),
    "days": ("time", Fraction(1), ("days", "day", "天", "日数")),
    "hours": ("time", Fraction(1, 24), ("hours", "hour", "hrs", "小时")),
    "minutes": ("time", Fraction(1, 1440), ("minutes", "minute", "mins", "分钟")),
    "kg": ("mass", Fraction(1), ("kg", "公斤", "千克")),
    "g": ("mass", Fraction(1, 1000), ("g", "gm", "grams", "克")),
    "mg": ("mass", Fraction(1, 1_000_000), ("mg", "毫克")),
    "jin": ("mass", Fraction(1, 2), ("jin", "斤", "市斤")),
    "lb": ("mass", Fraction("0.45359237"), ("lb", "lbs", "pounds")),
    "m": ("length", Fraction(1), ("m", "米")),
    "cm": ("length", Fraction(1, 100), ("cm", "厘米")),
    "in": ("length", Fraction("0.0254"), ("in", "inch", "inches")),
    "mmHg": ("pressure", Fraction(1), ("mmhg",)),
    "kPa": ("pressure", Fraction("7.50061683"), ("kpa",)),
    "kcal": ("energy", Fraction(1), ("kcal", "千卡")),
    "kJ": ("energy", Fraction(1000, 4184), ("kj", "千焦")),
    "share": ("share", Fraction(1), ("share", "ratio", "率")),
    "percent": ("share", Fraction(1, 100), ("percent", "pct", "百分比")),
    "mg/dL": ("mg/dL", Fraction(1), ()),
    "ug/dL": ("ug/dL", Fraction(1), ()),
    "ug/L": ("ug/dL", Fraction(1, 10), ()),
    "kg/m2": ("kg/m2", Fraction(1), ()),
    "per minute": ("frequency", Fraction(1), ("bpm",)),
    "minutes after noon": ("clock", Fraction(1), ()),
    "count": ("count", Fraction(1), ("count", "number", "次数", "件数")),
}


def factor(source: str, target: str) -> float | None:
    """What a number in ``source`` is multiplied with to be in ``target``; None where they measure different things."""
    (quantity, size, _), (wanted, base, _) = UNITS[source], UNITS[target]
    return float(size / base) if quantity == wanted else None


def relatives(unit: str) -> list[str]:
    """All units of the same quantity, itself first."""
    if unit not in UNITS:
        return []
    return [unit, *(u for u in UNITS if u != unit and UNITS[u][0] == UNITS[unit][0])]


def hinted(words: set[str], unit: str) -> str:
    """The relative of ``unit`` that a column's name speaks of, "" where it names none or two."""
    found = [u for u in relatives(unit) if words & set(UNITS[u][2])]
    return found[0] if len(found) == 1 else ""
