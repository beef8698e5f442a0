from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import registered
from core.names import suggest
from tests.fixtures.lines import lines_run

TYPOS = {
    "layer": {
        "linaer": "linear", "Linear": "linear", "linea": "linear", "ReLU": "relu", "rleu": "relu", "tahn": "tanh",
        "BatchNorm": "batch_norm", "batch-norm": "batch_norm", "layernrom": "layer_norm", "dropuot": "dropout",
        "flaten": "flatten", "softmx": "softmax", "substract": "subtract", "embeding": "embedding",
    },
    "loss": {"hing": "hinge", "soft_max": "softmax", "MeanSquaredError": "mean_squared_error",
        "mse": "mean_squared_error", "MSELoss": "mean_squared_error", "mae": "absolute_error",
        "l1_loss": "absolute_error",
        "cross_entropy": "softmax", "CrossEntropyLoss": "softmax", "sparse_categorical_crossentropy": "softmax",
        "bce": "sigmoid_cross_entropy", "binary_cross_entropy": "sigmoid_cross_entropy", "log_loss": "softmax",
        "BCEWithLogitsLoss": "sigmoid_cross_entropy", "huber_loss": "huber", "multi_margin_loss": "hinge"},
    "metric": {"rmse": "root_mean_squared_error", "mae": "mean_absolute_error", "mse": "mean_squared_error",
        "auc": "roc_auc", "r2_score": "r2", "f1_score": "f1"},
    "optimizer": {"sdg": "sgd", "SGD": "sgd", "rms_prop": "rmsprop", "Adam": "adam"},
    "schedule": {"cosin": "cosine", "exponental": "exponential"},
    "initializer": {"gloort": "glorot", "zero": "zeros"},
}  # fmt: skip
OTHER = {
    "layer": ["attention", "transformer", "lstm", "convolution", "dense", "max_pool", "group_norm",
    "softmin", "split",
              "stack", "mean_pool", "", "_", "x" * 10_000],
    "loss": ["kl_div", "focal", "poisson"],
    "optimizer": ["lbfgs", "lamb", "adadelta", "momentum"],
    "schedule": ["linear", "polynomial", "step_lr", "plateau"],
    "initializer": ["xavier", "kaiming", "orthogonal", "ones", "truncated_normal"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "typo"), [(kind, typo) for kind, typos in TYPOS.items() for typo in typos])
def test_a_typo_is_recognised(kind: str, typo: str) -> None:
    assert suggest(typo, registered(kind)) == f"; did you mean {TYPOS[kind][typo]!r}?"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in OTHER.items() for name in names])
def test_another_name_has_no_suggestion(kind: str, name: str) -> None:
    assert suggest(name, registered(kind)) == ""


def test_a_series_of_a_metric_is_suggested_by_the_name_of_another_library() -> None:
    known = ["val/loss", "val/root_mean_squared_error", "val/r2"]
    assert suggest("val/rmse", known) == "; did you mean 'val/root_mean_squared_error'?"
    assert suggest("val/mae", known) == ""  # which this job has not


def test_values_that_are_no_names_and_families_without_names() -> None:
    assert suggest(None, registered("layer")) == ""
    assert suggest("relu", []) == ""
    assert suggest(["a"], ["a"]) == ""


def typos(first: str, second: str) -> int:
    """The number of letters left out, added, replaced or swapped, by its definition."""
    rows = {(0, column): column for column in range(len(second) + 1)} | {(row, 0): row for row in range(len(first) + 1)}
    for row in range(1, len(first) + 1):
        for column in range(1, len(second) + 1):
            rows[row, column] = min(
                rows[row - 1, column - 1] + (first[row - 1] != second[column - 1]),
                rows[row - 1, column] + 1,
                rows[row, column - 1] + 1,
            )
            if row > 1 and column > 1 and first[row - 2 : row] == second[column - 2 : column][::-1]:
                rows[row, column] = min(rows[row, column], rows[row - 2, column - 2] + 1)
    return rows[len(first), len(second)]


@given(st.text("abc", max_size=14), st.lists(st.text("abc", max_size=14), max_size=8))
def test_the_first_of_the_closest_names_is_suggested(name: str, known: list[str]) -> None:
    closest = min(known, key=lambda each: typos(name, each), default=None)
    near = closest is not None and typos(name, closest) <= max(1, len(name) // 4)
    assert suggest(name, known) == (f"; did you mean {closest!r}?" if near else "")


@pytest.mark.parametrize("name", ["m" * 64, "n" * 50 + "m" * 14])
def test_comparisons_end_early(name: str) -> None:
    """Comparing 64 letters with 64 has 4,096 steps of several lines."""
    known = [f"{'n' * 58}{number:06d}" for number in range(50)]
    assert lines_run(lambda: suggest(name, known)) < 50 * 4096 * 3
