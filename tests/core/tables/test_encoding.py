"""Tables of any types become the numbers of a dataset, or an error that names the column and the row."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.tables.column import Column
from core.tables.dates import PARTS, parts_of
from core.tables.encoding import TableError, encode
from core.tables.texts import category_of, in_order, number_of

NAN = math.nan
NUMBER = Column("n", "number")
CATEGORY = Column("c", "category", categories=("a", "b"))
BOOLEAN = Column("c", "category", categories=("false", "true"))
INTEGER = Column("c", "category", categories=("1", "2", "10"))
DATE = tuple(Column(f"d.{part}", "number", source="d", part=part) for part in PARTS)
MONDAY = [2026, 11, 30, 0, 45000]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (NUMBER, [1, 2.5, None, "3", " 1,234 ", "", True, "NA"], [1, 2.5, NAN, 3, 1234, NAN, 1, NAN]),
        (NUMBER, np.array([1, 2], np.int16), [1, 2]),
        (NUMBER, np.array([True, False]), [1, 0]),
        (NUMBER, np.array(["1.5", "nan"]), [1.5, NAN]),
        (NUMBER, pd.array([1, None], "Int64"), [1, NAN]),
        (NUMBER, [decimal.Decimal("1.5"), np.float32(2)], [1.5, 2]),
        (NUMBER, [2**53 + 1, 16777217], [float(np.float32(2**53 + 1)), 16777216]),
        (Column("n", "number", decimal=","), ["1,5", "1.234,5", 2.5, "7"], [1.5, 1234.5, 2.5, 7]),
        (CATEGORY, ["b", "a", " b ", "c", None, "", NAN, "NA"], [1, 0, 1, 2, NAN, NAN, NAN, NAN]),
        (CATEGORY, pd.Series(["b", None, "x"], dtype="category"), [1, NAN, 2]),
        (Column("c", "category", categories=("NA", "a")), ["NA", "a", "?"], [0, 1, NAN]),
        (BOOLEAN, [True, "False", "TRUE", np.True_, 0, None], [1, 0, 1, 1, 2, NAN]),
        (BOOLEAN, np.array([True, False]), [1, 0]),
        (INTEGER, [10, 2.0, "1", "2.0", 3, np.int8(1)], [2, 1, 0, 1, 3, 0]),
    ],
    ids=str,
)
def test_values_of_any_type(column: Column, values: Any, expected: list[float]) -> None:
    found = encode([column], {column.name: values})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], np.array(expected, np.float32))


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-30 12:30:00",
        "2026-11-30T12:30",
        "2026/11/30 12:30:00.000",
        "2026-11-30T13:30:00+01:00",
        "2026-11-30T12:30:00Z",
        dt.datetime(2026, 11, 30, 12, 30),
        dt.datetime(2026, 11, 30, 12, 30, tzinfo=dt.UTC),
        pd.Timestamp("2026-11-30 12:30"),
        np.datetime64("2026-11-30T12:30"),
    ],
    ids=repr,
)
def test_dates(value: Any) -> None:
    assert encode(DATE, {"d": [value]}).tolist() == [MONDAY]
    assert encode(DATE, {"d": pd.Series([value, None])})[0].tolist() == MONDAY
    assert np.isnan(encode(DATE, {"d": [None, "", pd.NaT, "NaT"]})).all()


def test_days() -> None:
    assert encode(DATE, {"d": [dt.date(2024, 2, 29)]}).tolist() == [[2024, 2, 29, 3, 0]]
    assert encode(DATE, {"d": np.array(["2024-02-29"], "datetime64[ns]")}).tolist() == [[2024, 2, 29, 3, 0]]


@given(st.datetimes())
def test_the_parts_are_those_of_the_standard_library(instant: dt.datetime) -> None:
    parts = parts_of(np.array([instant], "datetime64[us]"))
    midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    seconds = np.float32((instant - midnight).total_seconds())
    expected = [instant.year, instant.month, instant.day, instant.weekday(), seconds]
    assert [parts[part][0] for part in PARTS] == expected


def test_columns_are_matched_by_name() -> None:
    columns = [NUMBER, CATEGORY, Column("l", "number", width=2)]
    table = {"l": [[1, 2], [3, 4]], "id": ["x", {}], "c": ["b", "a"], "n": [5, 6]}
    assert encode(columns, table, ignored=["id"]).tolist() == [[5, 1, 1, 2], [6, 0, 3, 4]]
    assert encode(columns, table | {"l": np.array([[1, 2], [3, 4]])}, ["id"]).tolist() == [[5, 1, 1, 2], [6, 0, 3, 4]]
    assert encode(columns, {"n": [], "c": [], "l": []}).shape == (0, 4)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"n": [1]}, "has no column 'c'; it needs n, c"),
        ({"n": [1], "c": ["a"], "m": [1]}, "has a column 'm', which is unknown; it needs n, c"),
        ({"n": [1], "c": ["a", "b"]}, "has 2 rows in column 'c' and 1 in column 'n'"),
        ({"n": [1, "x"], "c": ["a", "b"]}, "column 'n' in row 2 has 'x', which is not a number"),
        ({"n": [1, 1e39], "c": ["a", "b"]}, "column 'n' in row 2 has a value that is not a finite 32-bit number"),
        ({"n": [1, "-inf"], "c": ["a", "b"]}, "column 'n' in row 2 has a value that is not a finite"),
        ({"n": [1, {}], "c": ["a", "b"]}, "column 'n' in row 2 has '{}', which is not a number"),
        ({"n": [[1, 2]], "c": ["a"]}, "column 'n' in row 1 has"),
        ({"n": np.array(["2024-01-01"], "M8[D]"), "c": ["a"]}, "column 'n' in row 1 has"),
    ],
)
def test_tables_that_do_not_fit(table: dict[str, Any], words: str) -> None:
    with pytest.raises(TableError, match=re.escape(words)):
        encode([NUMBER, CATEGORY], table)


@pytest.mark.parametrize("value", ["30.11.2026", "2026-02-30", 20261130, "today", True, [1]])
def test_what_is_no_date(value: Any) -> None:
    with pytest.raises(TableError, match=r"column 'd' in row 2 has .*which is not a date in ISO 8601"):
        encode(DATE, {"d": [None, value]})


@pytest.mark.parametrize("column", [NUMBER, CATEGORY, DATE[0], Column("x", "number", 3, missing=True, decimal=",")])
def test_columns_as_json(column: Column) -> None:
    assert Column.from_json(column.to_json()) == column


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1,234", 1234, 1.234),
        ("1.234", 1.234, 1234),
        ("1'234'567.5", 1234567.5, None),
        ("1 234,5", None, 1234.5),
        ("12,34", None, 12.34),
        ("1,2,3", None, None),
        ("1_000", None, None),
        ("٣", None, None),
        ("0x10", None, None),
        ("1e5", 1e5, 1e5),
    ],
)
def test_numbers_in_text(text: str, point: float | None, comma: float | None) -> None:
    assert (number_of(text), number_of(text, ",")) == (point, comma)


def test_categories_in_order() -> None:
    assert in_order({"10", "9", "-1"}) == ["-1", "9", "10"]
    assert in_order({"10", "9", "a"}) == ["10", "9", "a"]
    assert [category_of(text) for text in (" a ", "3.0", "3.5", "007")] == ["a", "3", "3.5", "007"]
