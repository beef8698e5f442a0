"""Which columns that a model reads as indices are changed before it reads them."""

from __future__ import annotations

from typing import Any

import pytest

from core import build_classifier, entry_from_spec
from workers.job.index_columns import changed_indices
from workers.job.spec import DataSpec

FEATURES = 12
EMBEDDING = {"type": "embedding", "entries": 5, "units": 2, "name": "codes"}
SELECT = {"type": "select", "index": 3}
SCORES = [{"type": "flatten"}, {"type": "linear", "units": 3}]


def changed(layers: list[dict[str, Any]], **data: Any) -> list[tuple[str, str, list[int]]]:
    graph = build_classifier([entry_from_spec(layer) for layer in [*layers, *SCORES]], FEATURES)
    spec = DataSpec.model_validate({"dataset": "codes", **data})
    return [(found.field, found.node, found.columns.tolist()) for found in changed_indices(spec, graph, FEATURES)]


@pytest.mark.parametrize(
    ("before", "columns"),
    [
        ([], [*range(12)]),
        ([SELECT], [3]),
        ([{"type": "slice", "start": 2, "stop": 4}], [2, 3]),
        ([{"type": "identity"}, SELECT], [3]),
        ([{"type": "dropout"}, SELECT], [3]),
        ([{"type": "reshape", "shape": [3, 4]}, {"type": "select", "index": 1, "axis": 1}], [4, 5, 6, 7]),
        ([{"type": "reshape", "shape": [3, 4]}, {"type": "flatten"}, SELECT], [3]),
        # Codes that begin at 1.
        ([SELECT, {"type": "shift", "offset": -1.0}], [3]),
        (
            [
                {"type": "slice", "stop": 1, "name": "a", "inputs": ["features"]},
                {"type": "slice", "start": 11, "name": "b", "inputs": ["features"]},
                {"type": "concat", "inputs": ["b", "a"]},
            ],
            [0, 11],
        ),
        # Only the first of the numbers that it reads is a column.
        (
            [
                {"type": "slice", "stop": 1, "name": "a", "inputs": ["features"]},
                {"type": "linear", "units": 2, "name": "b", "inputs": ["features"]},
                {"type": "concat", "inputs": ["b", "a"]},
            ],
            [0],
        ),
    ],
)
@pytest.mark.parametrize("index", [EMBEDDING, {"type": "one_hot", "classes": 5, "name": "codes"}])
def test_columns_are_followed_to_the_indices(
    before: list[dict[str, Any]], columns: list[int], index: dict[str, Any]
) -> None:
    assert changed([*before, index]) == [("data.standardize", "codes", columns)]


def test_columns_that_stay_as_they_are() -> None:
    assert changed([SELECT, EMBEDDING], standardize=False) == []
    assert changed([{"type": "linear", "units": 2}, EMBEDDING]) == []
    assert changed([SELECT]) == []


def test_scaling_by_given_numbers() -> None:
    divide = [1.0] * FEATURES
    assert changed([SELECT, EMBEDDING], scale={"divide": 255}) == [("data.scale", "codes", [3])]
    assert changed([SELECT, EMBEDDING], scale={"subtract": 0.5}) == [("data.scale", "codes", [3])]
    assert changed([SELECT, EMBEDDING], scale={"subtract": 1}) == []
    divide[2] = 10
    assert changed([SELECT, EMBEDDING], scale={"divide": divide}) == []
    divide[3] = 10
    assert changed([SELECT, EMBEDDING], scale={"divide": divide}) == [("data.scale", "codes", [3])]


def test_augmentation_moves_pixels() -> None:
    flip = {"standardize": False, "augmentation": [{"type": "flip"}]}
    assert changed([SELECT, EMBEDDING], **flip) == [("data.augmentation", "codes", [3])]
    # Every pixel is a code, wherever it is.
    assert changed([EMBEDDING], **flip) == []
