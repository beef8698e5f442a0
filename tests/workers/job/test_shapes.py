"""Models whose shapes do not fit: what the errors say, and where."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import to_spec
from core.graph.node import Layer
from tests.core.fixtures.cases import CASES
from tests.workers.fixtures.helpers import job
from workers.data.dataset import DatasetInfo
from workers.job.checks.model import DEFAULT_LIMITS, Limits
from workers.job.checks.problems import SpecError
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from tests.core.fixtures.cases import Case
    from workers.job.checks.problems import FieldProblem

COLUMNS = DatasetInfo("", "0" * 64, rows=333, features=64, classes=("a", "b", "c"))
IMAGES = replace(COLUMNS, features=192, dtype="uint8", shape=(8, 8, 3))
FLATTEN, RELU, LINEAR = {"type": "flatten"}, {"type": "relu"}, {"type": "linear", "units": 3}
END = [FLATTEN, LINEAR]

Layers = list[dict[str, Any]]


def conv(filters: int = 4, kernel: Any = 3, **others: Any) -> dict[str, Any]:
    return {"type": "conv2d", "filters": filters, "kernel": kernel, **others}


def block(kind: str, *layers: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"type": kind, "layers": list(layers), **others}


def problems_of(
    layers: Layers, dataset: DatasetInfo = IMAGES, limits: Limits = DEFAULT_LIMITS, **model: Any
) -> list[FieldProblem]:
    changes = {"model.layers": layers} | {f"model.{name}": value for name, value in model.items()}
    try:
        resolve(JobSpec.model_validate(job(**changes)), dataset, limits)
    except SpecError as error:
        return list(error.problems)
    return []


ONE_OF_EACH = {type(each.instance): each for each in CASES if isinstance(each.instance, Layer)}.values()


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.instance.type)
def test_a_layer_that_cannot_read_columns_names_a_shape_that_it_can(case: Case) -> None:
    """Each layer as the first on a dataset without a shape."""
    layer: Any = case.instance
    # More columns than any window and margin of the examples needs.
    columns = replace(COLUMNS, features=64 * prod(case.inputs[0](np.random.default_rng(0)).shape[1:]))
    entry = to_spec(layer) | {"inputs": ["features"] * layer.arity}
    found = problems_of([entry, *END], columns)
    for problem in found:
        if "axes" in problem.message or "needs an input" in problem.message or "needs inputs" in problem.message:
            (shape,) = re.findall(r"Set model\.inputs to the shape of a row, such as (\[[\d, ]+\])", problem.message)
            inputs = json.loads(shape)
            assert prod(inputs) == columns.features
            assert len(inputs) > 1
            again = problems_of([entry, *END], columns, inputs=inputs)
            assert not any("model.inputs" in other.message for other in again)


FIRST: dict[str, tuple[Layers, DatasetInfo, str]] = {
    "a sequence of numbers": ([{"type": "conv1d", "filters": 3, "kernel": 5}, *END], COLUMNS, "such as [64, 1]"),
    "a pool": ([{"type": "max_pool1d", "kernel": 5}, *END], COLUMNS, "such as [64, 1]"),
    "an image as a sequence": ([{"type": "average_pool1d", "kernel": 5}, *END], IMAGES, "such as [64, 3]"),
    "an image of columns": ([conv(), *END], COLUMNS, "such as [8, 8, 1]"),
    "a number of columns without two factors": ([conv(), *END], replace(COLUMNS, features=61), "such as [1, 61, 1]"),
    "an image behind another layer": ([{"type": "batch_norm"}, RELU, conv(), *END], IMAGES, "[8, 8, 3]"),
    "images that a block reads": ([block("repeat", conv(), times=2), *END], COLUMNS, "such as [8, 8, 1]"),
    "axes of a reduction": ([{"type": "mean", "axes": [1, 2]}, *END], COLUMNS, "such as [64, 1]"),
    "axes of an image": ([{"type": "mean", "axes": [1, 2, 3]}, *END], IMAGES, "[8, 8, 3]"),
    "more axes than a row has": ([{"type": "slice", "start": 0, "axis": 3}, *END], COLUMNS, "such as [8, 8, 1]"),
    "matrices": ([{"type": "matmul", "inputs": ["features", "features"]}, *END], COLUMNS, "such as [64, 1]"),
}


@pytest.mark.parametrize("case", FIRST)
def test_the_shape_of_a_row_is_named(case: str) -> None:
    layers, dataset, words = FIRST[case]
    (problem,) = problems_of(layers, dataset)
    assert f"Set model.inputs to the shape of a row, {words}, or add a reshape layer" in problem.message


OTHER_WAYS: dict[str, tuple[Layers, dict[str, Any], str]] = {
    "rows that are flattened before": ([FLATTEN, conv(), *END], {}, "needs an input of shape (batch, height, width"),
    "a linear layer before": ([LINEAR, conv(), *END], {"inputs": 192}, "needs an input of shape (batch, height, width"),
    "images that nothing flattens": ([conv(), LINEAR], {}, "(1, 6, 6, 4); see flatten"),
    "an axis that no row has": ([{"type": "select", "index": 0, "axis": 10**9}, *END], {}, "an axis from 1 to 1"),
    "an axis that no image has": ([conv(), {"type": "mean", "axes": [1, 4]}, *END], {}, "an axis from 1 to 3"),
}


@pytest.mark.parametrize("case", OTHER_WAYS)
def test_a_shape_of_rows_that_does_not_help_is_not_named(case: str) -> None:
    layers, model, words = OTHER_WAYS[case]
    (problem,) = problems_of(layers, **model)
    assert words in problem.message
    assert "model.inputs" not in problem.message


INCEPTION = {"type": "inception"} | {
    f"filters_{branch}": 2 for branch in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool")
}
# A model with a head that reads the images of its first layer, 6 x 6 x 4.
HEADED = [conv(name="images"), *END]


def head(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"heads": [{"name": "aux", "reads": "images", "layers": list(layers)}]}


UNFIT: dict[str, tuple[Layers, dict[str, Any], str, tuple[str, ...]]] = {
    "a kernel larger than the image": (
        [RELU | {"name": "first"}, conv(kernel=[3, 9]), *END], {"inputs": [8, 8, 3]},
        "layers.1", ("1_conv2d", "windows of 9 in width, but the image has 8"),
    ),
    "one that is larger with its dilation": (
        [conv(dilation=4), *END], {}, "layers.0", ("0_conv2d", "windows of 9 in height, 3 with the dilation 4"),
    ),
    "one that is larger with its padding": (
        [conv(kernel=11, padding=1), *END], {}, "layers.0", ("0_conv2d", "the image has 8, 10 with the padding"),
    ),
    "a pool larger than the image": (
        [{"type": "max_pool2d", "kernel": 9}, *END], {}, "layers.0", ("0_max_pool2d", "windows of 9 in height"),
    ),
    "a pool with too much padding": (
        [{"type": "average_pool2d", "kernel": 2, "padding": 2}, *END], {},
        "layers.0", ("0_average_pool2d", "padding must be smaller than a window of 2"),
    ),
    "images that become too small in a block": (
        [block("repeat", conv(), RELU, times=4), *END], {},
        "layers.0.layers.0", ("0_repeat_3_0_conv2d", "windows of 3 in height, but the image has 2"),
    ),
    "a kernel too large in a block in a block": (
        [block("repeat", block("residual", RELU, conv(kernel=9), name="inner"), times=2), *END], {"inputs": [8, 8, 3]},
        "layers.0.layers.0.layers.1", ("0_repeat_0_inner", "windows of 9 in height"),
    ),
    "a kernel too large in a shortcut": (
        [block("residual", conv(3, padding=1), shortcut=[conv(3, 10)]), *END], {},
        "layers.0.shortcut.0", ("0_residual_shortcut", "windows of 10"),
    ),
    "a block of images that reads columns": (
        [FLATTEN, INCEPTION, *END], {}, "layers.1", ("1_inception_1x1", "needs an input of shape (batch, height"),
    ),
    "a sum of images of two sizes": (
        [block("residual", conv(3), RELU), *END], {}, "layers.0", ("0_residual", "(1, 6, 6, 3) and (1, 8, 8, 3)"),
    ),
    "images of two sizes whose channels are joined": (
        [block("dense", conv(), times=2), *END], {},
        "layers.0", ("0_dense_0_joined", "(1, 8, 8, 3) and (1, 6, 6, 4)"),
    ),
    "groups that do not divide the channels": (
        [conv(groups=2), *END], {}, "layers.0", ("0_conv2d", "conv2d.groups must divide the number of channels, 3"),
    ),
    "groups that do not divide the filters, in a block": (
        [block("repeat", conv(name="a"), conv(6, 1, groups=4), times=2), *END], {},
        "layers.0.layers.1", ("0_repeat_0", "conv2d.groups must divide the number of filters, 6, but is 4"),
    ),
    "groups of a transposed convolution": (
        [{"type": "conv2d_transpose", "filters": 2, "kernel": 3, "groups": 3}, *END], {},
        "layers.0", ("0_conv2d_transpose", "conv2d_transpose.groups must divide the number of filters, 2"),
    ),
    "a kernel longer than the sequence": (
        [{"type": "conv1d", "filters": 3, "kernel": 13}, *END], {"inputs": [12, 16]},
        "layers.0", ("0_conv1d", "conv1d has windows of 13 in length, but the sequence has 12"),
    ),
    "groups of sequences": (
        [{"type": "conv1d", "filters": 5, "kernel": 3, "groups": 5}, *END], {"inputs": [12, 16]},
        "layers.0", ("0_conv1d", "conv1d.groups must divide the number of channels, 16"),
    ),
    "a kernel too large in a head": (
        HEADED, head(conv(kernel=7), *END), "heads.0.layers.0", ("aux_0_conv2d", "the image has 6"),
    ),
    "groups in a block in a head": (
        HEADED, head(block("residual", RELU, conv(groups=3)), *END),
        "heads.0.layers.0.layers.1", ("aux_0_residual_layers", "conv2d.groups must divide the number of channels, 4"),
    ),
    "scores of another shape in a head": (
        HEADED, head(FLATTEN, {"type": "linear", "units": 7}), "heads.0.layers.1", ("(7,)", "have (3,)"),
    ),
    "a crop of everything": (
        [{"type": "crop", "margin": 4}, *END], {}, "layers.0", ("0_crop", "leaves nothing of an input of shape"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_an_error_names_the_layer_and_its_place(case: str) -> None:
    layers, model, field, words = UNFIT[case]
    (problem,) = problems_of(layers, **model)
    assert problem.field == f"model.{field}"
    for word in words:
        assert word in problem.message


WIDE = {"type": "linear", "units": 5000, "name": "wide"}
TOO_LARGE: dict[str, tuple[Layers, dict[str, Any], Limits, str]] = {
    "parameters": ([FLATTEN, WIDE, LINEAR], {}, Limits(parameters=10**5), "'wide' has most"),
    "parameters in a block": (
        [block("residual", conv(500, padding=1), RELU, conv(3, padding=1), name="res"), *END], {},
        Limits(parameters=10**4), "'res_layers_0_conv2d' has most",
    ),
    "parameters in a head": (HEADED, head(FLATTEN, WIDE, LINEAR), Limits(parameters=10**5), "'aux_wide' has most"),
    "values": ([conv(500), *END], {}, Limits(batch_bytes=10**6), "'0_conv2d' takes most"),
    "values in a block": (
        [block("repeat", conv(padding=1), conv(300, name="many", padding=1), conv(padding=1), times=2), *END], {},
        Limits(batch_bytes=10**6), "'0_repeat_0_many' takes most",
    ),
    "memory in a head": (HEADED, head(FLATTEN, WIDE, LINEAR), Limits(worker_bytes=10**6), "'aux_wide' takes most"),
    "memory in a block": (
        [block("residual", conv(400, padding=1), RELU, conv(3, padding=1), name="res"), *END], {},
        Limits(worker_bytes=10**6), "'res_layers_0_conv2d' takes most",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_model_beyond_a_limit_names_its_largest_layer(case: str) -> None:
    layers, model, limits, words = TOO_LARGE[case]
    (problem,) = problems_of(layers, limits=limits, **model)
    assert problem.field == "model.layers"
    assert words in problem.message
