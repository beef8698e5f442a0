"""The demo, in a directory whose modules it must not import."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest
from matplotlib import image

from tests.e2e.stack import GRADFLEET, MARK, assert_no_process_left
from tests.fixtures.hostile import hostile_directory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)
def test_demo(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    data_dir = tmp_path / "data"
    demo = subprocess.run(
        [*GRADFLEET, "demo", "--data-dir", str(data_dir)],
        cwd=hostile_directory(tmp_path / "project"),
        env=os.environ | {MARK: mark, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert demo.returncode == 0, demo.stderr + demo.stdout
    assert_no_process_left(mark)
    accuracy = {
        classifier: float(share)
        for classifier, share in re.findall(r"((?:hinge|softmax)-\w+) \D+3 \D+([\d.]+) ±", demo.stdout)
    }
    models = ("linear", "hidden", "cnn")
    assert set(accuracy) == {f"{loss}-{model}" for loss in ("hinge", "softmax") for model in models}, demo.stdout
    assert all(accuracy[f"{loss}-{model}"] >= 0.95 for loss in ("hinge", "softmax") for model in models[1:])
    mislabelled = {
        int(percent): (float(hinge), float(softmax))
        for percent, hinge, softmax in re.findall(r" (\d+)% \D+([\d.]+) ± [\d.]+ \D+([\d.]+) ±", demo.stdout)
    }
    assert mislabelled.keys() == {0, 1, 5, 10}, demo.stdout
    assert mislabelled[0] == (accuracy["hinge-linear"], accuracy["softmax-linear"])
    assert mislabelled[10][0] < mislabelled[10][1]
    picture = image.imread(data_dir / "demo" / "hinge-vs-softmax.png")
    assert picture.shape[1] > 1000
    assert len({tuple(color) for color in picture[::10, ::10].reshape(-1, picture.shape[2])}) > 5, "curves are drawn"
