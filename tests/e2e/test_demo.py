"""The demo, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from typing import TYPE_CHECKING

from matplotlib import image

from tests.e2e.stack import GRADFLEET, MARK, assert_no_process_left

if TYPE_CHECKING:
    from pathlib import Path


def test_demo(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    data_dir = tmp_path / "data"
    demo = subprocess.run(
        [*GRADFLEET, "demo", "--data-dir", str(data_dir)],
        env=os.environ | {MARK: mark, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert demo.returncode == 0, demo.stderr + demo.stdout
    assert_no_process_left(mark)
    accuracy = {
        job: float(percent)
        for job, percent in re.findall(r"((?:hinge|softmax)-(?:linear|hidden)) \D+[\d.]+ \D+([\d.]+)%", demo.stdout)
    }
    assert set(accuracy) == {"hinge-linear", "softmax-linear", "hinge-hidden", "softmax-hidden"}, demo.stdout
    assert accuracy["hinge-hidden"] >= 95
    assert accuracy["softmax-hidden"] >= 95
    picture = image.imread(data_dir / "demo" / "hinge-vs-softmax.png")
    assert picture.shape[1] > 1000
    assert len({tuple(color) for color in picture[::10, ::10].reshape(-1, picture.shape[2])}) > 5, "curves are drawn"
