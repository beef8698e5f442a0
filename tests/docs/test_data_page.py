"""Runs the examples of docs/data.md in order against a real API."""

from __future__ import annotations

import csv
import gzip
import io
import re
import shlex
import struct
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from typer.testing import CliRunner

from service.cli.main import app as command_line
from tests.service.conftest import api, app, database, mlflow_url, notifications, settings

if TYPE_CHECKING:
    import httpx

    from service.settings import Settings

__all__ = ["api", "app", "database", "mlflow_url", "notifications", "settings"]  # the fixtures

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def database_url() -> str | None:
    """Use the default of the settings."""
    return None


def write_files(folder: Path) -> None:
    """Write the files that the page uses."""
    iris = load_iris()
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sepal_length", "sepal_width", "petal_length", "petal_width", "species"])
        writer.writerows([*row, iris.target_names[label]] for row, label in zip(iris.data, iris.target, strict=True))
    with (folder / "sorted.csv").open("w", newline="") as file:
        rows = [[3.5, "setosa", "train"], [4, "virginica", "test"], [2, "virginica", "train"]]
        csv.writer(file).writerows([["petal_width", "species", "part"], *rows])
    with (folder / "houses.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["rooms", "area_in", "area_out", "price"], [3, 80.5, 10, 2e5], [5, 120, 300, 5e5]])
    digits = load_digits()
    images = digits.images.astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", digits.target.astype(np.uint8))):
        content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    few = digits.target < 3
    np.savez(folder / "arrays.npz", x_train=images[few].reshape(-1, 64), y_train=digits.target[few], x_test=images[:9])
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = 3073 * 10
            archive.addfile(info, io.BytesIO(b"".join(bytes([label]) + bytes(3072) for label in range(10))))


def test_examples_run(
    api: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(api.base_url).rstrip("/")
    monkeypatch.setenv("GRADFLEET_URL", url)
    monkeypatch.chdir(settings.data_dir)
    write_files(settings.allowed_roots[0])
    (settings.data_dir / "table.csv").write_bytes((settings.allowed_roots[0] / "table.csv").read_bytes())
    names: dict[str, Any] = {}
    output = ""
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block.replace("http://127.0.0.1:8000", url), "docs/data.md", "exec"), names)
            names["client"].close()
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "gradfleet"
            result = CliRunner().invoke(command_line, arguments)
            assert result.exit_code == 0, f"{line}: {result.stderr}"
            output += result.stdout
    for words in (
        "digits: 1,797 rows, 64 features, 10 classes",
        "diabetes: 442 rows, 10 features, 1 target",
        "mine: 150 rows, 4 features, 3 classes",
        "mnist: 1,797 rows, 64 features, 10 classes",
        "cifar: 30 rows, 3,072 features, 10 classes",
        "houses: 2 rows, 3 features, 1 target",
        "sorted: 3 rows, 1 feature, 2 classes",
        "wrote mnist.png",
        "arrays@1: 537 rows",
    ):
        assert words in output
    assert "uint8 [8, 8, 1] [178, 182, 177]" in capsys.readouterr().out
    assert [entry["name"] for entry in api.get("/v1/datasets").json()["data"]] == [
        "cifar", "diabetes", "digits", "houses", "mine", "mnist", "sent", "sorted",
    ]  # fmt: skip


def test_page_lists_every_request_and_setting_for_datasets(api: httpx.Client, settings: Settings) -> None:
    paths = [path for path in api.get("/openapi.json").json()["paths"] if path.startswith("/v1/datasets")]
    assert len(paths) == 5
    for path in paths:
        assert f"{path}`" in PAGE or f"{path}?" in PAGE, path
    limits = ("max_upload_bytes", "max_dataset_bytes", "max_registration_memory_bytes", "max_registration_seconds")
    for name in (*limits, "allowed_uris", "data_roots"):
        assert f"`{name}`" in PAGE
        assert hasattr(settings, name)
