"""Labels in the forms in which files have them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest

from service.datasets.preparation.preparation import Selection
from service.datasets.schemas import DatasetRequest
from tests.fixtures.prepared import prepared
from workers.data.dataset import DatasetError, open_dataset

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 6
BOOLEANS = [True, False, False, True, True, False]
NAMES = ["b", "a", "a", "b", "b", "a"]
EXPECTED = [1, 0, 0, 1, 1, 0]

dictionary = pa.DictionaryArray.from_arrays

NULL = "a dictionary with an unused null"

# Label columns of a table whose classes are in the order of EXPECTED.
COLUMNS: dict[str, tuple[Any, list[str]]] = {
    "booleans": (pa.array(BOOLEANS), ["false", "true"]),
    "text": (pa.array(NAMES), ["a", "b"]),
    "text views": (pa.array(NAMES, pa.string_view()), ["a", "b"]),
    "large text": (pa.array(NAMES, pa.large_string()), ["a", "b"]),
    "lists of one": (pa.array([[value] for value in EXPECTED]), ["0", "1"]),
    "fixed lists of one": (pa.array([[name] for name in NAMES], pa.list_(pa.string(), 1)), ["a", "b"]),
    "lists of one boolean": (pa.array([[value] for value in BOOLEANS]), ["false", "true"]),
    "a dictionary with unused values": (dictionary([2, 1, 1, 2, 2, 1], ["x", "a", "b", "y"]), ["a", "b"]),
    "a dictionary that repeats a value": (dictionary([2, 1, 0, 2, 2, 1], ["a", "a", "b"]), ["a", "b"]),
    "a dictionary of integers": (dictionary([0, 1, 1, 0, 0, 1], pa.array([7, 3])), ["3", "7"]),
    NULL: (dictionary([2, 1, 1, 2, 2, 1], [None, "a", "b"]), ["a", "b"]),
}

# Arrow writes no dictionary with a null to Parquet.
CASES = [(name, suffix) for name in COLUMNS for suffix in ("parquet", "feather") if (name, suffix) != (NULL, "parquet")]


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_label_columns(tmp_path: Path, name: str, suffix: str) -> None:
    column, classes = COLUMNS[name]
    table = pa.table({"a": np.arange(ROWS), "label": column})
    write = pq.write_table if suffix == "parquet" else pf.write_feather
    write(table, tmp_path / f"t.{suffix}")
    found = prepared([tmp_path / f"t.{suffix}"], tmp_path / "data", Selection()).info
    assert list(found.classes) == classes
    assert open_dataset(found)[1].tolist() == EXPECTED


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(BOOLEANS), ["false", "true"]),
        (np.array(BOOLEANS)[:, None], ["false", "true"]),
        (np.array(EXPECTED)[:, None], ["0", "1"]),
        (np.array(EXPECTED)[:, None, None], ["0", "1"]),
        (np.array(NAMES)[:, None], ["a", "b"]),
        (np.asfortranarray(np.array(EXPECTED)[:, None]), ["0", "1"]),
    ],
)
def test_arrays_of_labels(tmp_path: Path, labels: Any, classes: list[str]) -> None:
    np.savez(tmp_path / "t.npz", x=np.arange(ROWS), label=labels)
    found = prepared([tmp_path / "t.npz"], tmp_path / "data", Selection()).info
    assert list(found.classes) == classes
    assert open_dataset(found)[1].tolist() == EXPECTED


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([[0], [1], [0, 1], [0], [1], [0]]), "labels are integers, booleans or text"),
        (pa.array([[0], [1], None, [0], [1], [0]]), "row 3 has no label"),
        (pa.array([[0], [1], [None], [0], [1], [0]]), "row 3 has no label"),
        (dictionary([2, 1, 0, 2, 2, 1], [None, "a", "b"]), "row 3 has no label"),
        (dictionary(pa.array([0, 1, None, 0, 1, 0]), ["a", "b"]), "row 3 has no label"),
        (dictionary([0, 1, 0, 0, 1, 0], pa.array([0.5, 1.5])), "labels are integers, booleans or text"),
    ],
)
def test_invalid_label_columns(tmp_path: Path, column: Any, words: str) -> None:
    pf.write_feather(pa.table({"a": np.arange(ROWS), "label": column}), tmp_path / "t.feather")
    with pytest.raises(DatasetError, match=words):
        prepared([tmp_path / "t.feather"], tmp_path / "data", Selection())


def test_many_classes_are_named_in_one_pass(tmp_path: Path) -> None:
    """Each class is compared with few others: the labels count how often they are."""
    count, compared = 20_000, 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [Name(f"c{index}") for index in range(count)]
    table = pa.table({"a": np.arange(2 * count) % 100, "label": [f"c{row % count}" for row in range(2 * count)]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = prepared([tmp_path / "t.parquet"], tmp_path / "data", Selection(classes=names)).info
    assert (len(found.classes), open_dataset(found)[1][count + 5]) == (count, 5)
    assert compared < 20 * count


@pytest.mark.parametrize("name", ["t.csv.GZ", "T.CSV.Gz", "t.CSV", "t.TSV", "t.tsv.GZ"])
def test_suffixes_in_any_case(tmp_path: Path, name: str) -> None:
    separator = "\t" if "tsv" in name.lower() else ","
    content = f"a{separator}label\n1{separator}x\n2{separator}y\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    assert prepared([tmp_path / name], tmp_path / "data", Selection()).format == "csv"


@pytest.mark.parametrize("name", ["X.NPY", "x.npy", "x.Npy.GZ"])
def test_a_separate_file_of_labels_gives_the_column_its_name(name: str) -> None:
    assert DatasetRequest(name="d", path="images.npy", labels=f"folder/{name}").selection(name).label == name[0]
