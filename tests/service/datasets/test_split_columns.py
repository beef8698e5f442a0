"""The split column: from a file to the job that uses its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.datasets.preparation.preparation import Selection
from service.store.models import Job
from service.tracking.description import NOTE, tags_of
from tests.fixtures.prepared import prepared
from tests.service.fixtures.support import hinge_job
from workers.data.dataset import DatasetError, open_dataset, open_splits

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from service.datasets.preparation.preparation import Prepared
    from service.settings import Settings

PARTS = ["train", "test", "train", "train", "extra", "test"]


def frame(parts: Any = PARTS) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(6) * 0.5, "part": parts, "b": range(5, 11), "label": list("xyxyxy")})


def prepare_frame(tmp_path: Path, parts: Any = PARTS, name: str = "t.parquet", **selection: Any) -> Prepared:
    table = frame(parts)
    table.to_csv(tmp_path / name, index=False) if name.endswith("csv") else table.to_parquet(tmp_path / name)
    return prepared([tmp_path / name], tmp_path / "data", Selection(split="part", **selection))


def test_a_split_column_is_stored_and_is_not_a_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.datasets.readers.reader.CHUNK_ROWS", 2)
    info = prepare_frame(tmp_path).info
    assert list(info.splits.items()) == [("extra", 1), ("test", 2), ("train", 3)]
    codes = open_splits(info)
    assert codes.dtype == np.uint8
    assert [list(info.splits)[code] for code in codes] == PARTS
    features, labels = open_dataset(info)
    assert features.tolist() == [[row * 0.5, row + 5] for row in range(6)]
    assert labels.tolist() == [0, 1] * 3
    assert prepare_frame(tmp_path, features=["*"]).info == info
    assert prepare_frame(tmp_path, name="t.csv").info == info


@pytest.mark.parametrize(
    ("parts", "values"),
    [
        ([10, 9, 10, 10, -1, 9], ["-1", "10", "9"]),
        ([True, False] * 3, ["false", "true"]),
        (pd.Categorical(PARTS, categories=["valid", *sorted(set(PARTS), reverse=True)]), ["extra", "test", "train"]),
        (pd.array(PARTS, "string"), ["extra", "test", "train"]),
        (["all"] * 6, ["all"]),
    ],
    ids=str,
)
def test_splits_can_be_integers_booleans_or_text(tmp_path: Path, parts: Any, values: list[str]) -> None:
    info = prepare_frame(tmp_path, parts).info
    assert list(info.splits) == values
    assert [values[code] for code in open_splits(info)] == [
        str(part).lower() if isinstance(part, bool) else str(part) for part in parts
    ]


def test_the_digest_depends_on_the_splits(tmp_path: Path) -> None:
    """Datasets that differ in the split of a row or in the name of a split have different digests."""
    renamed = ["learn" if part == "train" else part for part in PARTS]
    moved = [*PARTS[:-1], "train"]
    found = [prepare_frame(tmp_path, parts).info for parts in (PARTS, renamed, moved)]
    frame().drop(columns="part").to_parquet(tmp_path / "t.parquet")
    found.append(prepared([tmp_path / "t.parquet"], tmp_path / "data", Selection()).info)
    assert len({info.digest for info in found}) == 4
    assert (found[-1].splits, open_dataset(found[-1])[0].tolist()) == ({}, open_dataset(found[0])[0].tolist())


def test_a_dataset_with_targets_can_have_splits(tmp_path: Path) -> None:
    info = prepare_frame(tmp_path, features=["a"], targets=["b"], label=None).info
    assert open_dataset(info)[1].tolist() == [[row + 5] for row in range(6)]
    assert info.splits == {"extra": 1, "test": 2, "train": 3}


REJECTED: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "a null": ([*PARTS[:4], None, "test"], {}, ("t.parquet", "'part' in row 5", "no split")),
    "fractions": (np.arange(6) * 0.5, {}, ("'part'", "double", "integers, booleans or text")),
    "missing column": (PARTS, {"split": "fold"}, ("'fold'", "a, part, b, label")),
    "the label": (PARTS, {"split": "label"}, ("'label'", "predicted")),
    "a target": (PARTS, {"split": "a", "targets": ["a"], "features": ["b"], "label": None}, ("'a'", "predicted")),
    "no other feature": (PARTS, {"features": ["part"]}, ("no feature column", "'label', 'part'")),
}


@pytest.mark.parametrize("case", REJECTED)
def test_invalid_split_columns(tmp_path: Path, case: str) -> None:
    parts, selection, words = REJECTED[case]
    frame(parts).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DatasetError) as caught:
        prepared([tmp_path / "t.parquet"], tmp_path / "data", Selection(**{"split": "part", **selection}))
    for word in words:
        assert word in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_split_column_has_at_most_256_values(tmp_path: Path) -> None:
    for count in (256, 257):
        columns = {"a": np.arange(count), "part": np.arange(count), "label": np.arange(count) % 2}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        files, selection = [tmp_path / "t.parquet"], Selection(split="part")
        if count == 256:
            assert len(prepared(files, tmp_path / "data", selection).info.splits) == 256
        else:
            with pytest.raises(DatasetError, match="'part' has more than 256 different values"):
                prepared(files, tmp_path / "data", selection)


@pytest.fixture
def sorted_rows(api: httpx.Client, settings: Settings) -> dict[str, Any]:
    """A registered dataset "sorted" with 200 rows "train", 60 rows "test" and 40 rows "other"."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {f"x{index}": random.normal(size=300) for index in range(8)}
    columns["label"] = np.arange(300) % 10
    columns["part"] = random.permutation(["train"] * 200 + ["test"] * 60 + ["other"] * 40)
    pq.write_table(pa.table(columns), settings.allowed_roots[0] / "sorted.parquet")
    answer = api.post("/v1/datasets", json={"name": "sorted", "path": "sorted.parquet", "split_column": "part"})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_registered_split_column_is_described(api: httpx.Client, sorted_rows: dict[str, Any]) -> None:
    assert sorted_rows["split_column"] == "part"
    assert list(sorted_rows["splits"].items()) == [("other", 40), ("test", 60), ("train", 200)]
    assert sorted_rows["features"] == 8
    assert api.get("/v1/datasets/sorted").json().items() >= sorted_rows.items()


def test_the_split_column_of_an_upload_is_a_query_parameter(api: httpx.Client, settings: Settings) -> None:
    frame().to_csv(settings.data_dir / "t.csv", index=False)
    query = {"name": "sent", "filename": "t.csv", "split_column": "part"}
    content = (settings.data_dir / "t.csv").read_bytes()
    head = {"Content-Type": "application/octet-stream"}
    sent = api.post("/v1/datasets/upload", params=query, content=content, headers=head)
    assert (sent.status_code, sent.json()["splits"]) == (201, {"extra": 1, "test": 2, "train": 3})
    rejected = api.post("/v1/datasets/upload", params=query | {"split_column": "fold"}, content=content, headers=head)
    assert rejected.status_code == 422
    assert "no split column 'fold'" in rejected.json()["detail"]


def split_job(**split: Any) -> dict[str, Any]:
    return hinge_job(data={"dataset": "sorted", "split": split}, **{"training.batch_size": 32})


@pytest.mark.usefixtures("sorted_rows")
def test_a_job_uses_the_values_of_the_split_column(api: httpx.Client) -> None:
    found = api.post("/v1/jobs/validate", json=split_job(train=["train"], validation=["test"]))
    assert found.status_code == 200, found.text
    assert (found.json()["train_rows"], found.json()["validation_rows"]) == (200, 60)
    posted = api.post("/v1/jobs", json=split_job(train=["train", "other"], validation=["test"]))
    assert posted.status_code == 201, posted.text
    data = posted.json()["spec"]["data"]
    assert (data["split"], data["validation"]) == ({"train": ["train", "other"], "validation": ["test"]}, 0)
    without_validation = api.post("/v1/jobs/validate", json=split_job(train=["train"])).json()
    assert "data.split.validation" in [warning["field"] for warning in without_validation["warnings"]]


def test_the_note_of_a_run_describes_the_split(api: httpx.Client, sorted_rows: dict[str, Any]) -> None:
    posted = api.post("/v1/jobs", json=split_job(train=["train", "other"], validation=["test"])).json()
    job = Job(id="j", state="running", attempt=1, step=0, total_steps=9, latest_metrics={}, validation_metrics=[])
    job.spec = posted["spec"]
    job.dataset = sorted_rows
    note = tags_of(job, {})[NOTE]
    assert "10 classes; split by a column: train, other to train on, test for validation\n" in note


@pytest.mark.usefixtures("sorted_rows", "digits")
@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({"split": {"train": ["train"], "validation": ["valid"]}}, "data.split.validation.0", ("'valid'", "'train'")),
        ({"split": {"train": ["train"], "validation": ["test", "train"]}}, "data.split", ("'train'", "both")),
        ({"split": {"train": []}}, "data.split.train", ("at least 1",)),
        ({"split": {"validation": ["test"]}}, "data.split.train", ("required",)),
        ({"split": {"train": "train"}}, "data.split.train", ("list", "'train'")),
        ({"split": {"train": [1]}}, "data.split.train.0", ("'1'", "'train'")),
        ({"split": {"column": "part", "train": ["train"]}}, "data.split.column", ("not a known field", "validation")),
        ({"split": {"train": ["train"]}, "validation": 0.2}, "data", ("both split and validation",)),
        ({"split": {"train": ["train"]}, "stratify": True}, "data", ("both split and stratify",)),
        ({"split": {"train": ["train"]}, "dataset": "digits"}, "data.split", ("'digits'", "split_column")),
    ],
)
def test_invalid_splits(api: httpx.Client, data: dict[str, Any], field: str, words: tuple[str, ...]) -> None:
    answer = api.post("/v1/jobs", json=hinge_job(data={"dataset": "sorted", **data}))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    for word in words:
        assert word in error["message"]
