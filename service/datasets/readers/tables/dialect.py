"""The form of a CSV file: its encoding, its delimiter, whether it has a header, and how it writes numbers."""

from __future__ import annotations

import csv
import io
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from core.tables.texts import MISSING, number_of
from service.datasets.files.opening import open_file
from service.datasets.readers.reading import check_count, check_names
from service.datasets.readers.tables.encodings import NAMES, UTF_8, WESTERN, encoding_of
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SAMPLE_BYTES = 8 * 1024 * 1024
SAMPLE_ROWS, SAMPLE_CELLS = 1000, 200_000
# A space separates fields if nothing else does, since texts have spaces.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
# A number that has a decimal comma for sure: 1,234 may as well be one thousand.
DECIMAL_COMMA = re.compile(r"[+-]?(\d+,(\d{1,2}|\d{4,})|0\d*,\d+|\d{4,},\d+|,\d+|\d{1,3}(\.\d{3})+,\d+)", re.ASCII)
PLAIN = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """The form of a file; `first_line` is the number of lines before the first row.

    `decimals` has the columns whose numbers have another decimal sign than a point, and `numbers` those that have
    plain numbers in the first rows.
    """

    encoding: str
    delimiter: str
    names: tuple[str, ...]
    has_header: bool
    first_line: int
    decimals: Mapping[str, str]
    unnamed: tuple[str, ...]
    numbers: frozenset[str]

    def notes(self) -> list[str]:
        """Return what is unusual about it, in words."""
        found = []
        if self.encoding not in {UTF_8, "utf-8-sig"}:
            found.append(f"encoding {NAMES.get(self.encoding, self.encoding.upper())}")
        if self.delimiter != ",":
            found.append(f"fields separated by {DELIMITERS[self.delimiter]}")
        if not self.has_header:
            found.append(f"no header: the columns are called {self.names[0]} to {self.names[-1]}")
        if self.decimals:
            found.append("decimal commas")
        return found


def dialect_of(path: Path) -> Dialect:
    """Return the form of a file. Raises DatasetError for names of columns that cannot be used."""
    encoding = encoding_of(path)
    with open_file(path) as file:
        content = file.read(SAMPLE_BYTES + 1)
    is_whole = len(content) <= SAMPLE_BYTES
    if encoding == WESTERN:
        try:
            content.decode(WESTERN)
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise DatasetError(
                f"{path.name} cannot be read as CSV: line {line} is no text in UTF-8 (utf-8) nor in Latin-1"
            ) from None
    text = content.decode(encoding, errors="ignore")  # the sample may end within a character
    delimiter = _delimiter(path, text)
    rows, first_line = _sample(path, text, delimiter, is_whole=is_whole)
    head = [name.strip() for name in rows[0]]
    if all(re.fullmatch("'.+'", name) for name in head):
        head = [name[1:-1] for name in head]
    check_count(path, len(head))
    has_header = _has_header(head, rows[1:])
    unnamed: tuple[str, ...] = ()
    if has_header:
        unnamed = tuple(f"column_{index + 1}" for index, name in enumerate(head) if not name)
        names = [name or f"column_{index + 1}" for index, name in enumerate(head)]
    else:
        names, first_line = [f"column_{index + 1}" for index in range(len(head))], 0
    check_names(path, names)
    columns = list(zip(*(row for row in rows[has_header:] if len(row) == len(names)), strict=True))
    values = dict(zip(names, columns, strict=False))
    decimals = dict.fromkeys(_with_decimal_commas(values), ",")
    numbers = frozenset(name for name in values.keys() - decimals.keys() if _are_plain(values[name]))
    return Dialect(encoding, delimiter, tuple(names), has_header, first_line, decimals, unnamed, numbers)


def _sample(path: Path, text: str, delimiter: str, *, is_whole: bool) -> tuple[list[list[str]], int]:
    """The first rows, and the number of lines that the first one has."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        first = next((row for row in reader if row), None)
    except csv.Error as error:
        raise DatasetError(f"{path.name} cannot be read as CSV: {error} in its first line") from error
    if first is None:
        raise DatasetError(f"{path.name} cannot be read as CSV: Empty file")
    lines, rows = reader.line_num, [first]
    count = min(SAMPLE_ROWS, max(20, SAMPLE_CELLS // max(1, len(first))))
    with suppress(csv.Error):  # what is wrong with a later row is found when the rows are read
        rows.extend(islice((row for row in reader if row), count))
    # The last row of a sample may be cut.
    return (rows if is_whole or len(rows) > count or len(rows) == 1 else rows[:-1]), lines


def _delimiter(path: Path, text: str) -> str:
    """What gives all of the first rows the same number of fields, as many as possible."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    ranks: dict[str, tuple[bool, bool, int, int, bool]] = {}
    for delimiter in dict.fromkeys([usual, *DELIMITERS]):
        rows: list[list[str]] = []
        with suppress(csv.Error):  # such as a field that has no end
            rows.extend(islice(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), 50))
        width = len(rows[0]) if rows else 0
        others = set(DELIMITERS) - {delimiter, " "}
        odd = sum(bool(others & set(cell)) and number_of(cell, ",") is None for row in rows[:20] for cell in row[:200])
        is_even = width > 1 and all(len(row) == width for row in rows)
        ranks[delimiter] = (is_even, delimiter != " ", width, -odd, delimiter == usual)
    return max(ranks, key=ranks.__getitem__, default=usual)


def _has_header(head: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns.

    It does not if it has numbers where the rows below have some, or if all of its texts are values below as well.
    """
    numbers = [number_of(name) for name in head]
    known = [number for number in numbers if number is not None and not math.isnan(number)]
    if not known:
        columns = list(zip(*(row for row in rows if len(row) == len(head)), strict=True))
        return not columns or any(
            name and name not in map(str.strip, column) for name, column in zip(head, columns, strict=True)
        )
    if len(known) > 1 and all(number.is_integer() for number in known):
        # Columns may be called 0, 1, 2, or by years.
        steps = {after - before for before, after in pairwise(known)}
        if len(steps) == 1 and steps != {0}:
            return True
    for index, number in enumerate(numbers):
        if number is None:
            below = [number_of(row[index]) for row in rows if index < len(row)]
            if any(value is not None and not math.isnan(value) for value in below) and None not in below:
                return True  # a text above a column of numbers
    return False


def _are_plain(values: Sequence[str]) -> bool:
    """Whether texts are numbers as all programs write them, or missing values."""
    present = [value for value in values if value not in MISSING]
    return bool(present) and all(map(PLAIN.fullmatch, present))


def _with_decimal_commas(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The columns whose numbers have decimal commas; those that may have some count if another one has for sure."""
    possible = {
        name: values
        for name, values in columns.items()
        if any("," in value or "." in value for value in values)
        and all(number_of(value, ",") is not None for value in values)
    }
    sure = any(DECIMAL_COMMA.fullmatch(value.strip()) for values in possible.values() for value in values)
    return list(possible) if sure else []
