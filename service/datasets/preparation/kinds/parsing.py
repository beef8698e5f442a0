"""Numbers and dates in columns of text, in bulk: with the same results as `core.tables` for each value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.tables.dates import FORM
from core.tables.texts import MISSING, number_of
from workers.data.arrow import values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def numbers_in(texts: pa.Array, decimal: str) -> NDArray[np.float64] | None:
    """The numbers that texts are, NaN for missing values; None if one of them is another text."""
    found = _cast(texts, decimal)
    if found is None:
        texts = trimmed(texts)
        found = _cast(texts, decimal)
    if found is not None:
        return found
    encoded = texts.dictionary_encode()
    numbers = []
    for text in encoded.dictionary.to_pylist():
        number = number_of(text, decimal)
        if number is None:
            return None
        numbers.append(number)
    values: NDArray[np.float64] = np.array([*numbers, np.nan])[encoded.indices.fill_null(len(numbers)).to_numpy()]
    return values


def first_text(texts: pa.Array, decimal: str) -> tuple[int, str]:
    """Row and value of the first of some texts that is not a number; there is one."""
    encoded = texts.dictionary_encode()
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        if number_of(text, decimal) is None:
            return int(np.flatnonzero(encoded.indices.fill_null(-1).to_numpy() == code)[0]), text
    raise ValueError("all of these texts are numbers")


def dates_in(texts: pa.Array) -> NDArray[np.datetime64] | None:
    """The instants that texts are, in UTC, NaT for missing values; None if one of them is another text."""
    texts = trimmed(texts)
    if not pc.all(pc.match_substring_regex(texts, f"^(?:{FORM})$")).as_py():
        return None
    texts = pc.replace_substring(texts, "/", "-")
    for zone in (None, "UTC"):
        try:
            return instants_of(texts.cast(pa.timestamp("us", zone)))
        except pa.ArrowInvalid:  # an offset where there must be none, or the reverse; or the 30th of February
            continue
    return None


def instants_of(dates: pa.Array) -> NDArray[np.datetime64]:
    """The instants of a column of dates, in UTC, NaT where there is none."""
    numbers = dates.cast(pa.timestamp("us", dates.type.tz if pa.types.is_timestamp(dates.type) else None), safe=False)
    instants: NDArray[np.datetime64] = numbers.to_numpy(zero_copy_only=False).astype("datetime64[us]")
    return instants


def trimmed(texts: pa.Array) -> pa.Array:
    """Texts without spaces around them; null where they stand for a missing value."""
    texts = pc.utf8_trim_whitespace(texts)
    # Not a constant of the module: Arrow's allocator would reserve a gigabyte when it is imported.
    missing = pa.array(sorted(MISSING), texts.type)
    return pc.if_else(pc.is_in(texts, missing), pa.scalar(None, texts.type), texts)


def whole_if_all_are(values: NDArray[np.float64]) -> NDArray[Any]:
    """Numbers as integers, if none has a fraction or is missing: a format without types writes 1.0 as 1."""
    with np.errstate(invalid="ignore"):  # numbers beyond 64 bits do not convert back to themselves
        integers = values.astype(np.int64)
    # Compared by bits, since -0.0 equals 0.
    same = np.array_equal(integers.astype(np.float64).view(np.int64), values.view(np.int64))
    return integers if same else values


def _cast(texts: pa.Array, decimal: str) -> NDArray[np.float64] | None:
    if decimal == ",":
        if pc.any(pc.match_substring(texts, ".")).as_py():
            return None  # a point may be between thousands
        texts = pc.replace_substring(texts, ",", ".")
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return values_of(numbers.fill_null(float("nan")))
