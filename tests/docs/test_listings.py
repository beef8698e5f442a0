"""docs/layers-of-torch-and-caffe.md has every name of the listings, and everything in code on it exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import Plan, Program, build_classifier, classes, entry_from_spec, from_spec, initialize, registered

PAGE = Path(__file__).parents[2] / "docs" / "layers-of-torch-and-caffe.md"

# The lecture's slides, and the layers of Torch7 and Caffe that are used for classification. Names of losses are without
# "Criterion".
TORCH = """
Sequential Concat Parallel ConcatTable ParallelTable JoinTable SplitTable SelectTable CAddTable CMulTable CMaxTable
Identity Linear Add CAdd Mul CMul MulConstant AddConstant Reshape View Max Mean Sum OneHot LookupTable
BatchNormalization SpatialBatchNormalization LayerNormalization Dropout SpatialDropout SpatialCrossMapLRN ReLU ReLU6
LeakyReLU RReLU PReLU ELU Threshold Sigmoid LogSigmoid Tanh HardTanh SoftPlus SoftSign SoftShrink SoftMin SoftMax
LogSoftMax Maxout SpatialConvolution SpatialMaxPooling SpatialAveragePooling SpatialAdaptiveMaxPooling
SpatialAdaptiveAveragePooling SpatialZeroPadding CrossEntropy ClassNLL MultiMargin Margin MarginRanking SoftMargin MSE
Abs SmoothL1 BCE Multi Parallel L1Cost Log MM MV MapTable MaskedSelect Min MixtureTable Module Select SparseJacobian
SparseLinear SpatialAutoCropMSE CosineEmbedding
"""
CAFFE = """
InnerProduct Convolution Pooling ReLU PReLU ELU Sigmoid TanH Swish BNLL AbsVal Power Dropout BatchNorm Scale Bias LRN
Softmax SoftmaxWithLoss HingeLoss EuclideanLoss SigmoidCrossEntropyLoss ContrastiveLoss MultinomialLogisticLoss Accuracy
ArgMax Concat Split Slice Silence Eltwise Reduction Flatten Reshape BatchReindex Input LCN
"""

# Fields of specs, and words of Caffe and Torch, that stand in code too.
FIELDS = {"share", "inputs", "region", "within_channel", "ceil", "scalar", "bias_term", "every", "at", "decay"}
FIELDS |= {"momentum", "code"}
KINDS = ("layer", "loss", "optimizer", "schedule")


def rows() -> dict[str, dict[str, str]]:
    """The tables by heading: what is here, by name there."""
    tables: dict[str, dict[str, str]] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        found = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)[1:]
        table = tables[section.partition("\n")[0]] = {}
        for names, here in found:
            # "lr_policy step" and "lr_mult, decay_mult" are one row each.
            for name in names.split(", "):
                assert name not in table, f"{name} has two rows"
                table[name] = here
    return tables


@pytest.mark.parametrize(("library", "names"), [("Torch7", TORCH), ("Caffe", CAFFE)])
def test_every_name_of_the_listings_has_a_row(library: str, names: str) -> None:
    found = {name for heading, table in rows().items() if heading.startswith(library) for name in table}
    assert set(names.split()) - found == set()


def test_each_row_names_a_part_or_says_why_there_is_none() -> None:
    for heading, table in rows().items():
        for name, here in table.items():
            says = "`" in here or "](" in here or re.match(r"(not available|not needed): |the |a |layers |part ", here)
            assert says, f"{heading}: {name}"


def test_everything_in_code_exists() -> None:
    known = {cls.type for cls in classes()} | FIELDS
    codes = re.findall(r"`([^`]+)`", PAGE.read_text())
    assert {code for code in codes if code[0] != "{" and "/" not in code} - known == set()
    for spec in {code for code in codes if code[0] == "{"}:
        given = json.loads(spec)
        kinds = [kind for kind in KINDS if given["type"] in registered(kind)]
        assert kinds, spec
        # "softmax" is a layer and a loss. One of them has these fields.
        problems = []
        for kind in kinds:
            try:
                entry_from_spec(given) if kind == "layer" else from_spec(kind, given)
            except (TypeError, ValueError) as error:
                problems.append(error)
        assert len(problems) < len(kinds), f"{spec}: {problems}"


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


NEGATIVE = {"type": "scale", "factor": -1}
X = np.random.default_rng(0).uniform(0.5, 2, (3, 6))
A, B = X[:, :3], X[:, 3:]
HALVES: list[dict[str, Any]] = [
    {"type": "slice", "stop": 3, "name": "a", "inputs": ["features"]},
    {"type": "slice", "start": 3, "name": "b", "inputs": ["features"]},
]
# Rows that need several layers: the layers, and the formula.
SEVERAL: dict[str, tuple[list[dict[str, Any]], np.ndarray]] = {
    "Torch's CDivTable": (
        [*HALVES, {"type": "reciprocal"}, {"type": "multiply", "inputs": ["a", "2_reciprocal"]}], A / B
    ),
    "Torch's CMinTable": (
        [*HALVES, {**NEGATIVE, "name": "c", "inputs": ["a"]}, {**NEGATIVE, "name": "d", "inputs": ["b"]},
         {"type": "maximum", "inputs": ["c", "d"]}, NEGATIVE],
        np.minimum(A, B),
    ),
    "Torch's SoftMin": ([NEGATIVE, {"type": "softmax"}], softmax(-X)),
    "Torch's HardTanh from -0.8 to 0.8": (
        [{"type": "shift", "offset": -1}, {"type": "scale", "factor": 1 / 0.8}, {"type": "hard_tanh"},
         {"type": "scale", "factor": 0.8}],
        np.clip(X - 1, -0.8, 0.8),
    ),
    "Torch's MixtureTable of two experts": (
        [*HALVES, {"type": "reshape", "shape": [1, 3], "name": "first", "inputs": ["a"]},
         {"type": "reshape", "shape": [1, 3], "name": "second", "inputs": ["b"]},
         {"type": "concat", "axis": 1, "inputs": ["first", "second"], "name": "experts"},
         {"type": "slice", "stop": 2, "inputs": ["features"]}, {"type": "reshape", "shape": [1, 2], "name": "gate"},
         {"type": "matmul", "inputs": ["gate", "experts"]}, {"type": "flatten"}],
        X[:, :1] * A + X[:, 1:2] * B,
    ),
    "Caffe's Power with scale 2, shift 1 and power 3": (
        [{"type": "scale", "factor": 2}, {"type": "shift", "offset": 1}, {"type": "power", "exponent": 3}],
        (1 + 2 * X) ** 3,
    ),
    "Caffe's Exp with base 2": ([{"type": "scale", "factor": float(np.log(2))}, {"type": "exp"}], 2**X),
    "Caffe's MVN": (
        [{"type": "layer_norm", "epsilon": 1e-30,
          "multipliers": {"scale": {"learning_rate": 0}, "shift": {"learning_rate": 0}}}],
        (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True),
    ),
    "Caffe's Reduction SUMSQ": ([{"type": "square"}, {"type": "sum"}], (X**2).sum(axis=1)),
    "Caffe's Tile": ([{"type": "concat", "inputs": ["features", "features"]}], np.tile(X, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", SEVERAL)
def test_rows_of_several_layers_compute_the_formula(case: str) -> None:
    layers, expected = SEVERAL[case]
    graph = build_classifier([entry_from_spec(layer) for layer in layers], 6)
    plan = Plan(Program.compile(graph, ("scores",), batch=3, dtype=np.float64, backward=False))
    plan.parameters[:] = initialize(plan.layout, 0, np.float64)
    plan.inputs["features"][...] = X
    plan.forward()
    np.testing.assert_allclose(plan.value("scores"), expected, rtol=1e-13)
