"""The examples of docs/images.md are valid."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

from core import build_classifier, entry_from_spec
from service.analysis.activation_maps import MOST_CHANNELS, MOST_LAYERS
from service.analysis.first_layer import MOST_PICTURES
from service.cli.yaml_values import parse
from service.jobs.schemas import JobRequest
from workers.data.dataset import DatasetInfo
from workers.job.resolve import resolve

PAGE = (Path(__file__).parents[2] / "docs" / "images.md").read_text()
JOB, BLOCK = (parse(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def test_the_job_is_lenet() -> None:
    shape, splits = (28, 28, 1), {"train": 8000, "test": 2000}
    names = tuple(map(str, range(10)))
    dataset = DatasetInfo("/nowhere", "0" * 64, 10_000, prod(shape), names, "uint8", shape, splits=splits)
    job = resolve(JobRequest.model_validate(JOB), dataset)
    assert (job.parameters, job.spec.model.inputs) == (431_080, [28, 28, 1])


def test_the_block_halves_the_images() -> None:
    (block,) = BLOCK
    graph = build_classifier([entry_from_spec(block)], (16, 16, 16))
    assert graph.shapes(2)["scores"] == (2, 8, 8, 32)


def test_the_limits_of_pictures() -> None:
    words = " ".join(PAGE.split())
    assert f"At most {MOST_PICTURES} are drawn" in words
    assert f"Of more than {MOST_LAYERS} layers, {MOST_LAYERS} are drawn" in words
    assert "first ten channels" in words
    assert MOST_CHANNELS == 10
