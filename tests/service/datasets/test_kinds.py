"""Numbers, categories, dates and missing values: what is stored for them, and what is left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tables.column import Column
from core.tables.encoding import encode
from service.datasets.preparation.preparation import Selection
from tests.fixtures.prepared import prepared
from tests.service.fixtures.support import hinge_job
from workers.data.dataset import DatasetError, DatasetInfo, open_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from service.datasets.preparation.preparation import Prepared

NAN = math.nan
ROWS = 6
LABEL = list("xyxyxy")


def written(folder: Path, frame: pd.DataFrame, form: str = "csv", **selection: Any) -> Prepared:
    source = folder / f"t.{form}"
    if form == "csv":
        frame.to_csv(source, index=False)
    else:
        frame.to_parquet(source)
    return prepared([source], folder / "data", Selection(**selection))


def of_text(folder: Path, text: str, **selection: Any) -> Prepared:
    (folder / "t.csv").write_text(text)
    return prepared([folder / "t.csv"], folder / "data", Selection(**selection))


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("values", "numbers", "column"),
    [
        (["b", "a", None, "b", "a", "c"], [1, 0, NAN, 1, 0, 2], {"categories": ("a", "b", "c"), "missing": True}),
        ([True, False, True, True, False, True], [1, 0, 1, 1, 0, 1], {"categories": ("false", "true")}),
        (pd.Categorical(["b", "a", "b"] * 2, ["z", "b", "a"]), [1, 0, 1, 1, 0, 1], {"categories": ("a", "b")}),
        ([1.5, None, 3, 4, 5, 6], [1.5, NAN, 3, 4, 5, 6], {"missing": True}),
        (pd.array([1, None, 3, 4, 5, 300], "Int64"), [1, NAN, 3, 4, 5, 300], {"missing": True}),
        (
            pd.array([True, None, False] * 2, "boolean"),
            [1, NAN, 0] * 2,
            {"categories": ("false", "true"), "missing": True},
        ),
    ],
    ids=["text", "booleans", "dictionary", "numbers", "integers", "booleans and missing"],
)
def test_kinds_are_the_same_in_a_format_with_types_and_in_one_without(
    tmp_path: Path, form: str, values: Any, numbers: list[float], column: dict[str, Any]
) -> None:
    found = written(tmp_path, pd.DataFrame({"a": values, "label": LABEL}), form)
    kind = "category" if "categories" in column else "number"
    assert found.info.columns == (Column("a", kind, **column),)
    features, _ = open_dataset(found.info)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, 0], np.array(numbers, np.float32))
    assert DatasetInfo.from_json(found.info.to_json()) == found.info
    (described,) = found.profile["columns"]
    assert (described["kind"], described["missing"]) == (kind, sum(map(math.isnan, numbers)))
    assert described["distinct"] == len({number for number in numbers if not math.isnan(number)})


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_dates_are_the_numbers_of_their_parts(tmp_path: Path, form: str) -> None:
    days = pd.to_datetime(["2026-11-30", "2024-02-29", None, "1969-12-31", "2000-01-01", "2026-12-01"])
    times = pd.to_datetime(["2026-11-30 00:00:01", *["2024-02-29 23:59:59.5"] * 5], format="ISO8601")
    found = written(tmp_path, pd.DataFrame({"d": days, "t": times, "label": LABEL}), form)
    assert [(c.name, c.source, c.part, c.missing) for c in found.info.columns] == [
        *((f"d.{part}", "d", part, True) for part in ("year", "month", "day", "weekday")),
        *((f"t.{part}", "t", part, False) for part in ("year", "month", "day", "weekday", "seconds")),
    ]
    features, _ = open_dataset(found.info)
    expected = [[day.year, day.month, day.day, day.weekday()] for day in days]
    np.testing.assert_array_equal(features[:, :4], np.array(expected, np.float32))
    assert features[:2, 4:].tolist() == [[2026, 11, 30, 0, 1], [2024, 2, 29, 3, 86399.5]]
    assert [(c["kind"], c["width"], c["missing"]) for c in found.profile["columns"]] == [("date", 4, 1), ("date", 5, 0)]


def test_integers_are_categories_on_request(tmp_path: Path) -> None:
    frame = pd.DataFrame({"zip": [10, 9, 10, 100, 9, 10], "b": [0.5, 1, 2, 3, 4, 7], "label": LABEL})
    for form in ("csv", "parquet"):
        found = written(tmp_path, frame, form, categories=["z*"])
        assert found.info.columns[0] == Column("zip", "category", categories=("9", "10", "100"))
        assert open_dataset(found.info)[0][:, 0].tolist() == [1, 0, 1, 2, 0, 1]
    found = of_text(tmp_path, "zip,label\n01234,x\n1234,y\n01234,x\n", categories=["zip"])
    assert found.info.columns[0].categories == ("01234", "1234")


def test_a_column_that_becomes_text_late_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.datasets.readers.csv.CHUNK_BYTES", 100)
    values = [str(number % 7) for number in range(60)] + ["x", ""] + ["y"] * 20
    dates = [""] * 40 + ["2026-01-02"] * 42
    rows = "".join(
        f"{value},{date},{index % 3}.5,{index % 2}\n"
        for index, (value, date) in enumerate(zip(values, dates, strict=True))
    )
    found = of_text(tmp_path, "a,d,n,label\n" + rows)
    assert found.info.columns[0] == Column("a", "category", categories=(*"0123456xy",), missing=True)
    assert [column.name for column in found.info.columns[1:]] == ["d.year", "d.month", "d.day", "d.weekday", "n"]
    features, labels = open_dataset(found.info)
    categories = "0123456xy"
    expected = [categories.index(value) if value else NAN for value in values]
    np.testing.assert_array_equal(features[:, 0], np.array(expected, np.float32))
    assert features[45, 1:5].tolist() == [2026, 1, 2, 4]
    assert np.isnan(features[:40, 1:5]).all()
    assert labels.tolist() == [index % 2 for index in range(82)]


def test_a_text_far_below_the_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rows say that the columns are numbers; all of their values are text again, as the file has them."""
    monkeypatch.setattr("service.datasets.readers.csv.CHUNK_BYTES", 200)
    monkeypatch.setattr("service.datasets.readers.tables.dialect.SAMPLE_ROWS", 20)
    values = [f"0{number % 7}" for number in range(60)] + ["x"] * 20
    rows = "".join(f"{value},{index % 5}.5,{index % 2}\n" for index, value in enumerate(values))
    found = of_text(tmp_path, f"a,n,label\n{rows}")
    assert found.info.columns == (
        Column("a", "category", categories=(*(f"0{number}" for number in range(7)), "x")),
        Column("n", "number"),
    )
    features, labels = open_dataset(found.info)
    assert features[:, 0].tolist() == [index % 7 for index in range(60)] + [7] * 20
    assert features[:, 1].tolist() == [index % 5 + 0.5 for index in range(80)]
    assert labels.tolist() == [index % 2 for index in range(80)]
    with pytest.raises(DatasetError, match="'a' in line 62 has 'x', which is not a number"):
        of_text(tmp_path, f"a,n,label\n{rows}", targets=["a"], label=None)


def test_plain_numbers_have_the_digest_that_they_had(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 5, 3, 2, 9, 4], "b": [0.5] * 6, "label": LABEL})
    plain = written(tmp_path, frame).info
    assert written(tmp_path, frame.rename(columns={"a": "other"})).info.digest == plain.digest
    words = frame.assign(c=["u", "v"] * 3)
    mixed = written(tmp_path, words).info
    assert written(tmp_path, words, "parquet").info == mixed
    for other in (words.rename(columns={"c": "other"}), words.assign(c=["u", "w"] * 3)):
        assert written(tmp_path, other).info.digest != mixed.digest


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_numbers_or_names_the_rows_is_left_out(tmp_path: Path, form: str) -> None:
    count = 40
    frame = pd.DataFrame(
        {
            "zero": range(count),
            "one": range(1, count + 1),
            "two": range(2, count + 2),
            "name": [f"name {row}" for row in range(count)],
            "few": ["u", "v"] * (count // 2),
            "nothing": [None] * count,
            "label": ["x", "y"] * (count // 2),
        }
    )
    found = written(tmp_path, frame, form)
    assert [column.name for column in found.info.columns] == ["two", "few"]
    reasons = {entry["name"]: entry["reason"] for entry in found.profile["left_out"]}
    assert list(reasons) == ["zero", "one", "name", "nothing"]
    assert reasons["zero"] == reasons["one"] == "counts the rows"
    assert "more than half of its texts are different" in reasons["name"]
    named = written(tmp_path, frame, form, features=["*", "one", "name"], exclude=["t*"])
    assert [column.name for column in named.info.columns] == ["one", "name", "few"]
    assert named.profile["left_out"][0] == {"name": "two", "reason": "is excluded by the request"}


def test_a_column_that_counts_the_rows_is_kept_if_there_is_no_other(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": [f"n{row}" for row in range(20)], "a": range(20), "label": ["x", "y"] * 10})
    assert [column.name for column in written(tmp_path, frame).info.columns] == ["a"]
    with pytest.raises(DatasetError, match=r"no feature column: 'name' names the rows.*--feature"):
        written(tmp_path, frame[["name", "label"]])


def test_small_integers_that_count_as_far_as_they_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.datasets.readers.reader.CHUNK_ROWS", 256)
    numbers = np.arange(400)
    frame = pd.DataFrame(
        {"a": numbers.astype(np.uint8), "id": numbers, "on": numbers % 2 == 0, "label": ["x", "y"] * 200}
    )
    found = written(tmp_path, frame, "parquet")
    assert [column.name for column in found.info.columns] == ["a", "on"]
    assert open_dataset(found.info)[0][:, 0].tolist() == (numbers % 256).tolist()


def test_the_index_of_pandas_is_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [3.5, 1, 2, 5, 1, 1], "label": LABEL})
    for index, name in (([9, 8, 7, 3, 2, 1], "__index_level_0__"), (pd.Index([7, 1, 2, 3, 4, 9], name="id"), "id")):
        frame.index = pd.Index(index)
        for form, write in (("parquet", frame.to_parquet), ("feather", None)):
            if write is None:
                continue
            write(tmp_path / f"t.{form}")
            found = prepared([tmp_path / f"t.{form}"], tmp_path / "data", Selection())
            assert [column.name for column in found.info.columns] == ["a"]
            assert found.profile["left_out"] == [{"name": name, "reason": "is the index of a pandas table"}]
    assert [c.name for c in written(tmp_path, frame, "parquet", features=["id", "a"]).info.columns] == ["id", "a"]
    frame.to_csv(tmp_path / "t.csv", index_label=False)
    frame.index.name = None
    frame.to_csv(tmp_path / "t.csv")
    found = prepared([tmp_path / "t.csv"], tmp_path / "data", Selection())
    assert found.profile["left_out"] == [{"name": "column_1", "reason": "is the first column and has no name"}]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("as_text", [False, True])
def test_labels_and_names_of_classes_follow_one_rule(tmp_path: Path, form: str, as_text: bool) -> None:
    def labels(values: list[int], classes: list[str]) -> list[int]:
        shown = [str(value) if as_text else value for value in values]
        frame = pd.DataFrame({"a": [0.5, 2, 1, 7], "label": shown})
        return open_dataset(written(tmp_path, frame, form, classes=classes).info)[1].tolist()

    assert labels([1, 0, 1, 0], ["1", "0"]) == [0, 1, 0, 1]
    assert labels([1, 0, 1, 0], ["no", "yes"]) == [1, 0, 1, 0]
    assert labels([0, 1, 2, 1], ["1", "2", "3"]) == [0, 1, 2, 1]  # not all of them are names
    with pytest.raises(DatasetError, match=r"3'?, which is none of the 3 classes .* as labels before are"):
        labels([0, 1, 2, 3], ["1", "2", "3"])


def test_a_few_texts_among_numbers_are_an_error(tmp_path: Path) -> None:
    rows = "".join(f"{row % 7},{row % 2}\n" for row in range(20))
    text = f"a,label\n{rows}many,1\n"
    with pytest.raises(
        DatasetError, match=r"'a' in line 22 has 'many', and nearly all other values are numbers.*--category"
    ):
        of_text(tmp_path, text)
    assert of_text(tmp_path, text, categories=["a"]).info.columns[0].categories[-1] == "many"
    with pytest.raises(DatasetError, match="no feature column"):
        of_text(tmp_path, text, exclude=["a"])


def test_too_many_categories(tmp_path: Path) -> None:
    count = 65_537
    rows = "".join(f"c{row % count},{row % 2},{row % 3}.5\n" for row in range(3 * count))
    with pytest.raises(DatasetError, match=r"'a' has more than 65,536 different values.*--exclude"):
        of_text(tmp_path, f"a,label,b\n{rows}", categories=["a"])
    assert of_text(tmp_path, f"a,label,b\n{rows}", exclude=["a"]).info.features == 1


def test_jobs_wait_for_the_preparation(api: Any, uploads: Path) -> None:
    pd.DataFrame({"a": [0.5, None, 2, 7], "b": [1.5, 2, 3, 9], "label": list("xyxy")}).to_csv(
        uploads / "t.csv", index=False
    )
    assert api.post("/v1/datasets", json={"name": "t", "path": "t.csv"}).status_code == 201
    answer = api.post("/v1/jobs", json=hinge_job(**{"data.dataset": "t"}))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "data.dataset"
    assert "column 'a' has missing values" in error["message"]
    shown = api.get("/v1/datasets/t").json()
    assert [(c["name"], c["kind"], c["missing"], c["distinct"]) for c in shown["columns"]] == [
        ("a", "number", 1, 3),
        ("b", "number", 0, 4),
    ]
    rows = api.get("/v1/datasets/t/preview").json()["rows"]
    assert rows[1]["features"] == [None, 2]


WORDS = st.sampled_from(["a", "b", "NA", "", "?", " a", "true", "FALSE", "1.0", "1", "007", "x y", "é"])
NUMBERS = st.one_of(
    st.sampled_from(["", "NA", "1,234", "+5", " 7 ", "1e3", ".5", "-0.0", "12 345", "?"]),
    st.integers(-(2**40), 2**40).map(str),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
)
DATES = st.one_of(
    st.sampled_from(["", "NA", "2024-02-29 12:30", "2024-01-31T23:59:59.25", "2025/12/01"]),
    st.dates().filter(lambda date: date.year > 999).map(str),
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(11, 25))
def test_a_table_is_encoded_as_it_was_registered(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int
) -> None:
    """The function for predictions gives the bits that the bulk path of a registration stores."""
    folder = tmp_path_factory.mktemp("any")
    table = {
        name: data.draw(st.lists(values, min_size=count, max_size=count), label=name)
        for name, values in (("w", WORDS), ("n", NUMBERS), ("d", DATES))
    }
    table["z"] = [f"{row % 4}.5" for row in range(count)]
    frame = pd.DataFrame(table | {"label": [row % 2 for row in range(count)]})
    frame.to_csv(folder / "t.csv", index=False)
    found = prepared([folder / "t.csv"], folder / "data", Selection(features=["w", "n", "d", "z"], categories=["w"]))
    features, _ = open_dataset(found.info)
    shuffled = dict(reversed(table.items())) | {"label": [None] * count}
    encoded = encode(found.info.columns, shuffled, ignored=["label"])
    assert encoded.tobytes() == features.astype(np.float32).tobytes()
