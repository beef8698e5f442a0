"""Preview, statistics and contact sheet of a dataset."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from service.settings import Settings


def register(api: httpx.Client, name: str, columns: dict[str, Any], uploads: Path, **form: Any) -> dict[str, Any]:
    pq.write_table(pa.table(columns), uploads / f"{name}.parquet")
    answer = api.post("/v1/datasets", json={"name": name, "path": f"{name}.parquet", **form})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_first_rows(api: httpx.Client, uploads: Path) -> None:
    register(api, "t", {"a": [1.5, 2.5, 3.5], "b": [1, 2, 3], "label": ["x", "y", "x"]}, uploads)
    assert api.get("/v1/datasets/t/preview?rows=2").json() == {
        "rows": [
            {"features": [1.5, 1], "label": "x", "targets": []},
            {"features": [2.5, 2], "label": "y", "targets": []},
        ]
    }
    assert len(api.get("/v1/datasets/t/preview").json()["rows"]) == 3
    register(api, "t", {"a": [1, 2], "c": [0.5, 7]}, uploads, targets=["c"])
    assert api.get("/v1/datasets/t@2/preview").json()["rows"][1] == {"features": [2], "label": None, "targets": [7]}
    for path in ("unknown/preview", "t@3/preview", "unknown/contact-sheet"):
        assert api.get(f"/v1/datasets/{path}").status_code == 404
    rejected = api.get("/v1/datasets/t/contact-sheet")
    assert (rejected.status_code, "not images" in rejected.json()["detail"]) == (409, True)


def test_columns_and_statistics(api: httpx.Client, uploads: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(1000, 2)) * [1, 1e-3] + [0, 1e5]
    counts = random.integers(0, 5, size=1000)
    columns = {
        "a": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2),
        "n": counts,
        "label": counts > 2,
    }
    columns["label"] = np.where(counts > 2, "many", "few")
    register(api, "t", columns, uploads)
    found = api.get("/v1/datasets/t").json()
    known = [{key: column[key] for key in ("name", "type", "width", "exact")} for column in found["columns"]]
    assert known == [
        {"name": "a", "type": "double[2]", "width": 2, "exact": False},
        {"name": "n", "type": "int64", "width": 1, "exact": True},
    ]
    kept = np.column_stack([values, counts]).astype(np.float32).astype(np.float64)
    for name, expected in (("mean", kept.mean(0)), ("std", kept.std(0)), ("min", kept.min(0)), ("max", kept.max(0))):
        np.testing.assert_allclose(found["statistics"][name], expected, rtol=1e-9, atol=1e-9, err_msg=name)
    assert found["class_counts"] == [(counts <= 2).sum(), (counts > 2).sum()]


def sheet(api: httpx.Client, name: str) -> np.ndarray[Any, Any]:
    answer = api.get(f"/v1/datasets/{name}/contact-sheet")
    assert answer.headers["content-type"] == "image/png"
    return np.array(Image.open(io.BytesIO(answer.content)))


def test_a_contact_sheet_has_a_row_for_each_class(api: httpx.Client, uploads: Path) -> None:
    images = np.zeros((30, 32, 32, 3), np.uint8)
    images[:] = np.arange(30)[:, None, None, None]
    images[..., 1] = 255
    columns = {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(images), "label": np.arange(30) % 2}
    assert register(api, "t", columns, uploads)["shape"] == [32, 32, 3]
    found = sheet(api, "t")
    assert found.shape == (2 * 34 - 2, 10 * 34 - 2, 3)
    for down in range(2):
        for right in range(10):
            tile = found[down * 34 : down * 34 + 32, right * 34 : right * 34 + 32]
            np.testing.assert_array_equal(tile, images[2 * right + down])


def test_images_with_few_grey_levels_are_scaled(api: httpx.Client, uploads: Path) -> None:
    """The values of scikit-learn's digits are 0 to 16."""
    images = np.arange(2, 18).repeat(4).reshape(16, 2, 2, 1).astype(np.uint8) - 1
    columns = {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(images), "label": np.arange(16) // 8}
    register(api, "t", columns, uploads)
    found = sheet(api, "t")
    assert found[0, 0].tolist() == [round(255 / 16)] * 3
    assert found.reshape(-1, 3)[(found != 255).any(axis=2).ravel()].max() == round(15 * 255 / 16)
    assert found[34, 7 * 34].tolist() == [255] * 3


@pytest.mark.parametrize("rows", [2, 5, 300])
def test_a_contact_sheet_of_small_grey_images(api: httpx.Client, uploads: Path, rows: int) -> None:
    values = np.linspace(-1, 3, rows * 64).reshape(rows, 64)
    columns = {"a": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 64), "y": np.arange(rows)}
    register(api, "t", columns, uploads, shape=[8, 8], targets=["y"])
    found = sheet(api, "t")
    assert found[0, 0].tolist() == [0, 0, 0]
    assert (found[..., 0] == found[..., 1]).all()
    assert found.max() == 255
    assert len(set(found[:32:4, 0, 0].tolist())) > 1 or rows > 100


def test_a_dataset_whose_file_is_missing(api: httpx.Client, uploads: Path, settings: Settings) -> None:
    dataset = register(api, "t", {"a": [[1] * 4, [2] * 4], "label": [0, 1]}, uploads, shape=[2, 2])
    (settings.dataset_dir / f"{dataset['digest']}.arrow").unlink()
    for path in ("preview", "contact-sheet"):
        answer = api.get(f"/v1/datasets/t/{path}")
        assert answer.status_code == 409
        assert "gone" in answer.json()["detail"]
