"""Labels that are numbers to predict, targets that are classes, and numbers that 32 bits do not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from service.datasets.preparation.preparation import Selection
from service.datasets.schemas import DatasetRequest
from tests.fixtures.prepared import prepared
from tests.service.fixtures.support import run
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from service.datasets.preparation.preparation import Prepared

ROWS = 400
RANDOM = np.random.default_rng(0)
PRICES = RANDOM.normal(2e5, 8e4, ROWS)
NOISE = RANDOM.normal(size=ROWS)


def of_table(directory: Path, form: str, columns: dict[str, Any], **selection: Any) -> Prepared:
    table = pa.table({"f": np.arange(ROWS) / 7, **columns})
    source = directory / f"t.{form}"
    if form == "csv":
        pc.write_csv(table, source)
    else:
        pq.write_table(table, source)
    return prepared([source], directory / "datasets", Selection(**selection))


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("label", [PRICES, NOISE * 1e-9, np.where(NOISE > 0, 1.5, 2.5), np.round(PRICES)], ids=len)
def test_floats_are_no_labels_in_any_format(tmp_path: Path, form: str, label: Any) -> None:
    """Arrow writes whole floats to CSV without a fraction, so these are integers there."""
    if form == "csv" and (label == np.round(label)).all():
        found = of_table(tmp_path, form, {"price": label}, label="price")
        assert [warning["field"] for warning in found.profile["warnings"]] == ["label"]
        return
    with pytest.raises(DatasetError, match=r"'price'.*labels are integers, booleans or text.*--target"):
        of_table(tmp_path, form, {"price": label}, label="price")


def test_numbers_that_are_named_as_classes_are_labels(tmp_path: Path) -> None:
    versions = np.where(NOISE > 0, "3.10", "3.11")
    found = of_table(tmp_path, "csv", {"v": versions}, label="v", classes=["3.10", "3.11"])
    assert found.info.classes == ("3.10", "3.11")
    assert found.profile["warnings"] == []


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("label", "is_warned"),
    [
        (np.arange(ROWS) % 90 + 1922, True),  # years
        (np.round(PRICES).astype(int), True),
        ([f"row {number}" for number in range(ROWS)], True),
        (np.arange(ROWS) % 50, False),
        (np.arange(ROWS) % 50 + 1, False),
        (np.arange(ROWS) % 10 + 1990, False),
        ([f"kind {number % 70}" for number in range(ROWS)], False),
    ],
)
def test_labels_that_look_like_numbers_to_predict(tmp_path: Path, form: str, label: Any, is_warned: bool) -> None:
    warnings = of_table(tmp_path, form, {"y": label}, label="y").profile["warnings"]
    assert [warning["field"] for warning in warnings] == ["label"] * is_warned
    assert all("'y' has" in warning["message"] and "--target" in warning["message"] for warning in warnings)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_text_is_no_target(tmp_path: Path, form: str) -> None:
    texts = {"kind": ["a", "b"] * (ROWS // 2)}
    with pytest.raises(DatasetError, match=r"column 'kind'.*A column of classes is named in `label` \(--label\)"):
        of_table(tmp_path, form, texts, targets=["kind"])
    found = of_table(tmp_path, form, texts | {"y": NOISE}, targets=["y"]).info  # it is a feature here
    assert [column.categories for column in found.columns] == [(), ("a", "b")]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (NOISE + 1e6, "stored in steps of 0.062, "),
        (NOISE - 1e10, "different numbers are stored as the same one"),
        (PRICES, None),
        (np.full(ROWS, 0.1), None),
        (np.arange(ROWS) + 1_000_000, None),  # exact
    ],
    ids=str,
)
def test_numbers_with_a_large_offset(tmp_path: Path, form: str, values: Any, words: str | None) -> None:
    columns = {"a": NOISE, "b": values}
    as_target = of_table(tmp_path, form, columns, targets=["a", "b"]).profile["warnings"]
    as_feature = of_table(tmp_path, form, columns, targets=["a"]).profile["warnings"]
    for found, field in ((as_target, "targets"), (as_feature, "features")):
        assert [warning["field"] for warning in found] == ([] if words is None else [field])
        assert all("column 'b'" in warning["message"] and (words or "") in warning["message"] for warning in found)


@pytest.mark.parametrize("given", [{"label": "f0"}, {"classes": ["a", "b"]}])
def test_a_dataset_has_a_label_or_targets(api: httpx.Client, given: dict[str, Any]) -> None:
    form = {"name": "t", "path": "t.csv", "targets": ["price"], **given}
    (error,) = api.post("/v1/datasets", json=form).json()["errors"]
    assert error["field"] == next(iter(given))
    assert "cannot be given beside targets" in error["message"]
    sent = {"name": "t", "targets": "price", **given}
    (error,) = api.post(
        "/v1/datasets/upload", params=sent, content=b"x", headers={"Content-Type": "application/octet-stream"}
    ).json()["errors"]
    assert error["field"] == next(iter(given))
    assert DatasetRequest(name="t", path="t.csv", targets=["price"]).selection().label is None


@pytest.mark.usefixtures("reading_here")
def test_the_command_line_shows_warnings_and_names_the_file(url: str, tmp_path: Path) -> None:
    table = pa.table({"f": NOISE, "year": np.arange(ROWS) % 90 + 1922, "kind": ["a", "b"] * (ROWS // 2)})
    pc.write_csv(table, tmp_path / "years.csv")
    add = ("datasets", "add", "years", str(tmp_path / "years.csv"), "--upload", "--feature", "f")
    added = run(url, *add, "--label", "year")
    assert added.stdout.startswith("years: 400 rows, 1 feature, 90 classes\n")
    assert added.stderr.startswith("warning: label: column 'year' has 90 classes, '1922' to '2011', in 400 rows")
    assert run(url, *add, "--label", "year").stderr == added.stderr
    assert "warning: label: column 'year'" in run(url, "datasets", "show", "years").stderr
    wrong = run(url, *add, "--label", "price").stderr
    assert wrong.startswith("gradfleet: years.csv: has no label column 'price'")
    text = run(url, *add, "--target", "kind").stderr
    assert text.startswith("gradfleet: years.csv: column 'kind' in line 2 has 'a', which is not a number")
