"""What a text in a table stands for: a number, a category, or a missing value."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

# What the common tools write where a value is missing: R and pandas, SQL, Excel, and the UCI repository.
MISSING = frozenset(
    ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN", "null", "NULL", "Null", "NaT", "?"]
)

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
# Between the thousands: a comma or a point, an apostrophe, a space, or one of the narrow spaces of typesetters.
_BETWEEN = r"(['\u2019 \u00a0\u2009\u202f])"
_THOUSANDS = {
    ".": re.compile(rf"[+-]?\d{{1,3}}(?:(,|{_BETWEEN})\d{{3}})(?:\1\d{{3}})*(\.\d*)?", re.ASCII),
    ",": re.compile(rf"[+-]?\d{{1,3}}(?:(\.|{_BETWEEN})\d{{3}})(?:\1\d{{3}})*(,\d*)?", re.ASCII),
}
_COMMA = re.compile(r"[+-]?(\d+(,\d*)?|,\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_NOT_DIGITS = {".": re.compile(r"[^\d.+-]", re.ASCII), ",": re.compile(r"[^\d,+-]", re.ASCII)}
_WHOLE = re.compile(r"([+-]?\d+)\.0*", re.ASCII)


def number_of(text: str, decimal: str = ".") -> float | None:
    """Return the number that a text is, NaN for a missing value, and None for any other text.

    Thousands may be separated. A decimal comma makes "1.234" one thousand; a decimal point makes "1,234" that.
    """
    text = text.strip()
    if text in MISSING:
        return math.nan
    if (_PLAIN if decimal == "." else _COMMA).fullmatch(text):
        return float(text.replace(",", "."))
    if _THOUSANDS[decimal].fullmatch(text):
        return float(_NOT_DIGITS[decimal].sub("", text).replace(",", "."))
    return None


def category_of(text: str) -> str:
    """Return the usual form of a category: without spaces around it, and a whole number without its ".0"."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def in_order(categories: Collection[str]) -> list[str]:
    """Return categories in order: integers as numbers, all others as text."""
    return sorted(categories, key=int if all(map(is_integer, categories)) else None)


def is_integer(text: str) -> bool:
    """Return whether a text is an integer as Python writes it: 007 is a name."""
    return len(text) < 20 and text.removeprefix("-").isdecimal() and text == str(int(text))


def are_booleans(categories: Collection[str]) -> bool:
    """Return whether categories are "true" and "false", in any case."""
    return bool(categories) and all(category.lower() in {"false", "true"} for category in categories)
