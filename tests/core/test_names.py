from __future__ import annotations

import pytest

from core import registered
from core.names import suggest

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
