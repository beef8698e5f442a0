"""Tables as spreadsheets, databases and statistics programs write them."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as po
import pytest

from service.datasets.preparation.preparation import Selection
from tests.fixtures.prepared import prepared
from tests.service.datasets.workbooks import workbook
from workers.data.dataset import DatasetError, open_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from service.datasets.preparation.preparation import Prepared

NAN = math.nan


def of_bytes(folder: Path, name: str, content: bytes | str, **selection: Any) -> Prepared:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return prepared([folder / name], folder / "data", Selection(**selection))


def numbers(found: Prepared) -> list[list[float]]:
    rows: list[list[float]] = open_dataset(found.info)[0].tolist()
    return rows


# The text of a table with the columns a, b and label, and what is said about its form.
DIALECTS: dict[str, tuple[str, list[str]]] = {
    "commas": ("a,b,label\n1.5,2,x\n-3,1234,y\n", []),
    "semicolons": ("a;b;label\n1.5;2;x\n-3;1234;y\n", ["fields separated by semicolons"]),
    "tabs": ("a\tb\tlabel\n1.5\t2\tx\n-3\t1234\ty\n", ["fields separated by tabs"]),
    "bars": ("a|b|label\n1.5|2|x\n-3|1234|y\n", ["fields separated by vertical bars"]),
    "single spaces": ('a "b" label\n1.5 2 x\n-3 1234 y\n', ["fields separated by spaces"]),
    "decimal commas": ("a;b;label\n1,5;2;x\n-3;1.234;y\n", ["fields separated by semicolons", "decimal commas"]),
    "quoted decimal commas": ('a,b,label\n"1,5",2,x\n-3,"1.234",y\n', ["decimal commas"]),
    "thousands": ('a,b,label\n1.5,2,x\n-3,"1,234",y\n', []),
    "thousands with spaces": ("a,b,label\n1.5,2,x\n-3,1 234,y\n", []),
    "spaces": ("a , b, label\n1.5 , 2, x\n -3,1234 , y\n", []),
    "line ends of Windows": ("a,b,label\r\n1.5,2,x\r\n-3,1234,y\r\n", []),
    "line ends of old Macs": ("a,b,label\r1.5,2,x\r-3,1234,y\r", []),
    "empty lines": ("\n\na,b,label\n\n1.5,2,x\n-3,1234,y\n\n", []),
    "quotation marks": ('"a","b","label"\n"1.5","2","x"\n"-3","1234","y"\n', []),
    "a plus": ("a,b,label\n+1.5,2,x\n-3.0e0,1.234e+3,y\n", []),
}


@pytest.mark.parametrize("case", DIALECTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_dialects(tmp_path: Path, case: str, encoding: str) -> None:
    text, notes = DIALECTS[case]
    found = of_bytes(tmp_path, "t.csv", text.encode(encoding))
    assert numbers(found) == [[1.5, 2], [-3, 1234]]
    assert found.info.classes == ("x", "y")
    assert found.profile["recognized"] == (["encoding UTF-16"] if "16" in encoding else []) + notes


def test_latin_1(tmp_path: Path) -> None:
    found = of_bytes(tmp_path, "t.csv", "größe,wort,label\n1.5,é,ä\n2,“,b\n7,é,b\n".encode("cp1252"))
    assert [column.name for column in found.info.columns] == ["größe", "wort"]
    assert found.info.columns[1].categories == ("é", "“")
    assert found.info.classes == ("b", "ä")
    assert found.profile["recognized"] == ["encoding Latin-1 (Windows-1252)"]


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "nan", "null", "NULL", "?", "N/A", "#N/A", " "])
def test_missing_values(tmp_path: Path, missing: str) -> None:
    found = of_bytes(
        tmp_path, "t.csv", f"n,c,d,label\n1,u,2024-01-01,x\n{missing},{missing},{missing},y\n3,v,2024-01-03,x\n"
    )
    np.testing.assert_array_equal(numbers(found), [[1, 0, 2024, 1, 1, 0], [NAN] * 6, [3, 1, 2024, 1, 3, 2]])
    assert [column["missing"] for column in found.profile["columns"]] == [1, 1, 1]


@pytest.mark.parametrize("text", [("True", "False"), ("true", "false"), ("TRUE", "FALSE")])
def test_booleans(tmp_path: Path, text: tuple[str, str]) -> None:
    yes, no = text
    found = of_bytes(tmp_path, "t.csv", f"a,label\n{yes},{yes}\n{no},{no}\n{yes},{no}\n")
    assert found.info.columns[0].categories == ("false", "true")
    assert numbers(found) == [[1], [0], [1]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("5.1,3.5,1,setosa\n4.9,3.0,2,setosa\n6.1,2,1,virginica\n", ["column_1", "column_2", "column_3"]),
        ("p,x,e\ne,x,p\np,s,e\ne,s,p\n", ["column_1", "column_2"]),
        ("2019,2020,who\n1.5,2,b\n3,4,c\n", ["2019", "2020"]),
        ("0,1,2\n1.5,2,3\n3,4,4\n", ["0", "1"]),
        ("a,1990,who\n1.5,2,b\n3,4,c\n", ["a", "1990"]),
    ],
)
def test_headers(tmp_path: Path, text: str, names: list[str]) -> None:
    last = text.split("\n", maxsplit=1)[0].rsplit(",", 1)[1]
    without = names[0] == "column_1"
    label = f"column_{len(names) + 1}" if without else last
    found = of_bytes(tmp_path, "t.csv", text, label=label)
    assert [column.name for column in found.info.columns] == names
    assert found.info.rows == text.count("\n") - (not without)
    assert found.profile["recognized"] == (
        [f"no header: the columns are called column_1 to {label}"] if without else []
    )


RECORDS = [
    {"a": 1, "b": "u", "d": "2024-02-29", "label": "x"},
    {"label": "y", "a": 2.5, "b": None},
    {"a": 3, "b": "v", "label": "x"},
]
ENCODED = [[1, 0, 2024, 2, 29, 3], [2.5, NAN, *[NAN] * 4], [3, 1, *[NAN] * 4]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", json.dumps(RECORDS)),
        ("t.json", json.dumps(RECORDS, indent=2)),
        ("t.jsonl", "\n".join(map(json.dumps, RECORDS)) + "\n"),
        ("t.ndjson", "\ufeff" + "\n".join(map(json.dumps, RECORDS))),
    ],
)
def test_json(tmp_path: Path, name: str, text: str) -> None:
    found = of_bytes(tmp_path, name, text)
    assert [column.name for column in found.info.columns] == ["a", "b", "d.year", "d.month", "d.day", "d.weekday"]
    np.testing.assert_array_equal(numbers(found), ENCODED)
    assert found.info.classes == ("x", "y")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": {"0": 1}, "label": {"0": 2}}', "column 'a' has type struct"),
        ("[1, 2]", "row 1 is no object"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"a": 1, "label": "x"}, {"a": ', "row 2: Expecting value"),
        ('[{"a": 1, "label": "x"} {"a": 2}]', "no comma or end after row 1"),
        ('[{"a": 1, "label": "x"}] x', "there is more after"),
        ('[{"a": 1, "label": "x"}', "no end after row 1"),
        ('[{"a": "\\ud800", "label": "x"}, {"a": 1, "label": "y"}]', "not Unicode"),
        ('[{"a": 1e999, "label": "x"}, {"a": 1, "label": "y"}]', "'a' in row 1 has a value that is not a finite"),
        (f'[{{"a": 1{"0" * 5000}, "label": "x"}}]', "thousands of digits"),
        ('[{"a": [1, {}], "label": "x"}, {"a": 1, "label": "y"}]', "objects or lists"),
        ("", "its columns are "),
    ],
)
def test_bad_json(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        of_bytes(tmp_path, "t.json", text)
    assert words in str(caught.value)


def test_orc(tmp_path: Path) -> None:
    table = pa.table({"a": [1.5, None, 3], "b": ["u", "v", None], "label": [1, 0, 1]})
    po.write_table(table, tmp_path / "t.orc")
    found = prepared([tmp_path / "t.orc"], tmp_path / "data", Selection())
    np.testing.assert_array_equal(numbers(found), [[1.5, 0], [NAN, 1], [3, NAN]])
    whole = (tmp_path / "t.orc").read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        with pytest.raises(DatasetError, match=r"u\.orc cannot be read as an ORC file"):
            of_bytes(tmp_path, "u.orc", content)


def test_excel(tmp_path: Path) -> None:
    rows = [["a", "b", "flag", "label"], [1, "u", True, "x"], [2.5, None, False, "y"], [None, "v", True, "x"]]
    found = of_bytes(tmp_path, "t.xlsx", workbook(rows))
    np.testing.assert_array_equal(numbers(found), [[1, 0, 1], [2.5, NAN, 0], [NAN, 1, 1]])
    assert (found.format, found.profile["recognized"]) == ("excel", ["the sheet 'First'"])
    assert of_bytes(tmp_path, "i.xlsx", workbook([["a", "label"], [7, 1], [8, 0]])).info.dtype == "uint8"
    with pytest.raises(DatasetError, match="'b' in row 5 of the sheet 'First' has 'u', which is not a number"):
        of_bytes(tmp_path, "u.xlsx", workbook(rows, 4), targets=["b"], label=None)


def test_bad_files_of_excel(tmp_path: Path) -> None:
    whole = workbook([["a", "label"], *[[row, "x"] for row in range(100)]])
    for content in (
        b"",
        b"PK\x03\x04" + bytes(50),
        whole[:300],
        whole[: len(whole) // 2] + bytes(40) + whole[-300:],
        workbook([]),
    ):
        with pytest.raises(DatasetError, match=r"u\.xlsx"):
            of_bytes(tmp_path, "u.xlsx", content)
    (tmp_path / "v.xlsx").write_bytes(workbook([["a", "label"], *[[1, "x"]] * 30_000]))
    with pytest.raises(DatasetError, match=r"v\.xlsx holds \d+ bytes, and at most 1000000 are read"):
        prepared([tmp_path / "v.xlsx"], tmp_path / "data", Selection(), max_bytes=1_000_000)


def test_the_time_for_many_columns_is_in_proportion_to_their_number(tmp_path: Path) -> None:
    """20,000 columns take 2 seconds of a processor; they took 33 where each one was compared with all others."""
    names = ",".join(f"gene_{column}" for column in range(20_000))
    lines = "".join(f"{row % 2},{','.join([f'{row * row}.5'] * 20_000)}\n" for row in range(5))
    begin = time.process_time()
    found = of_bytes(tmp_path, "t.csv", f"label,{names}\n{lines}")
    assert found.info.features == 20_000
    assert time.process_time() - begin < 20
