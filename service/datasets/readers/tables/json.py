"""JSON files: a list of objects, or an object in each line."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from service.datasets.files.opening import open_file
from service.datasets.readers.reader import CHUNK_ROWS, Hints, Rows
from service.datasets.readers.reading import MOST_COLUMNS, check_columns, check_count, check_names
from service.datasets.readers.tables.encodings import NAMES, UTF_8, encoding_of
from service.datasets.readers.tables.records import column_of
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BLANKS = " \t\r\n"
CELLS = 100_000  # of a chunk of rows


class JsonReader:
    """One or more files of objects, whose keys are the columns; a row without a key has no value there.

    Text that is a number is one, since many tools write numbers as text.
    """

    typed: ClassVar = False
    is_table: ClassVar = True
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        encoding = encoding_of(files[0])
        notes = [] if encoding in {UTF_8, "utf-8-sig"} else [f"encoding {NAMES.get(encoding, encoding.upper())}"]
        self.hints = Hints((*notes, "a list of objects" if _is_list(files[0], encoding) else "an object in each line"))
        names = _names(files[0])
        self.schema = pa.schema([(name, pa.string()) for name in names])
        check_names(files[0], names)

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files."""
        columns = [*numbers, *categories]
        count = max(1, min(CHUNK_ROWS, CELLS // len(columns)))
        for file in self._files:
            if file != self._files[0]:
                check_columns(columns, _names(file), file, self._files[0])
            rows, start = _objects(file), 0
            while chunk := list(islice(rows, count)):
                arrays = [column_of([row.get(name) for row in chunk], name, file.name) for name in columns]
                yield Rows(pa.record_batch(arrays, names=columns), file.name, start)
                start += len(chunk)


def _is_list(file: Path, encoding: str) -> bool:
    with open_file(file) as opened:
        start = opened.read(4096).decode(encoding, errors="ignore")
    return start.lstrip(BLANKS).startswith("[")


def _names(file: Path) -> list[str]:
    """The keys of all objects, in the order of appearance."""
    names: dict[str, None] = {}
    for row in _objects(file):
        if not names.keys() >= row.keys():
            names |= dict.fromkeys(row)
            if len(names) > MOST_COLUMNS:
                check_count(file, len(names))
    return list(names)


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file. Raises DatasetError, which names the row."""
    encoding = encoding_of(file)
    with open_file(file) as opened:
        text = opened.read().decode(encoding)
    decoder, at, row = json.JSONDecoder(), _after_blanks(text, 0), 0
    is_list = text.startswith("[", at)
    at = _after_blanks(text, at + is_list)
    while at < len(text) and not (is_list and text[at] == "]"):
        row += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            too_much = "it is nested too deeply, or has a number of thousands of digits"
            said = error.msg if isinstance(error, json.JSONDecodeError) else too_much
            raise DatasetError(f"{file.name} cannot be read as JSON: row {row}: {said}") from error
        if not isinstance(value, dict):
            raise DatasetError(
                f"{file.name}: row {row} is no object; a JSON file is a list of objects, such as "
                '[{"a": 1, "label": "x"}], or has an object in each line'
            )
        yield value
        at = _after_blanks(text, at)
        if is_list and at < len(text) and text[at] != "]":
            if text[at] != ",":
                raise DatasetError(f"{file.name} cannot be read as JSON: no comma or end after row {row}")
            at = _after_blanks(text, at + 1)
    if is_list and _after_blanks(text, at + 1) < len(text):
        raise DatasetError(f"{file.name} cannot be read as JSON: there is more after the list of objects")
    if is_list and at >= len(text):
        raise DatasetError(f"{file.name} cannot be read as JSON: the list has no end after row {row}")


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in BLANKS:
        at += 1
    return at
