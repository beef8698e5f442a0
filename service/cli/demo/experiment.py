"""The demo's experiment: hinge and softmax with several seeds, models and shares of mislabelled rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.analysis.comparison_figure import Group, Values
    from service.client import Sweep

DATASET, EXPERIMENT = "digits", "hinge-vs-softmax"
LOSSES = ("hinge", "softmax")
LINEAR: list[dict[str, Any]] = [{"type": "linear", "units": 10}]
HIDDEN: list[dict[str, Any]] = [{"type": "linear", "units": 128}, {"type": "relu"}, {"type": "linear", "units": 10}]
CNN: list[dict[str, Any]] = [
    {"type": "conv2d", "filters": 8, "kernel": 3, "padding": "same"},
    {"type": "relu"},
    {"type": "max_pool2d", "kernel": 2},
    {"type": "flatten"},
    {"type": "linear", "units": 64},
    {"type": "relu"},
    {"type": "linear", "units": 10},
]
MODELS = {"linear": LINEAR, "hidden": HIDDEN, "cnn": CNN}
MISLABELLED = {0.0: DATASET, 0.01: f"{DATASET}-wrong-1", 0.05: f"{DATASET}-wrong-5", 0.1: f"{DATASET}-wrong-10"}
SEEDS = (0, 1, 2)
VALIDATION = 0.2

BASE: dict[str, Any] = {
    "data": {"dataset": DATASET, "validation": VALIDATION, "standardize": True},
    "model": {"layers": LINEAR},
    "regularization": {"l2": 0.005},
    "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "schedule": {"type": "cosine"}},
    "training": {"epochs": 40, "batch_size": 128, "shards": 4},
}
# Decimal places of each figure.
FIGURES = {
    "accuracy": 3,
    "hinge": 3,
    "softmax": 3,
    "calibration error": 3,
    "median margin": 2,
    "active": 3,
    "weight norm": 2,
}


def losses_sweep() -> dict[str, Any]:
    """Return the spec of a sweep: both losses with each model."""
    return _sweep("losses", {"model.layers": list(MODELS.values()), "loss.type": list(LOSSES)})


def mislabelled_sweep() -> dict[str, Any]:
    """Return the spec of a sweep: both losses with the linear model, with mislabelled training rows."""
    wrong = [name for share, name in MISLABELLED.items() if share]
    return _sweep("mislabelled", {"data.dataset": wrong, "loss.type": list(LOSSES)})


def _sweep(name: str, grid: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "experiment": EXPERIMENT, "base": BASE, "over": {"grid": grid}, "seeds": list(SEEDS)}


def model_of(overrides: Mapping[str, Any]) -> str:
    """Return the name of the model of a job in the first sweep."""
    (name,) = (name for name, layers in MODELS.items() if layers == overrides["model.layers"])
    return name


def accuracies(losses: Sweep, mislabelled: Sweep) -> list[Values]:
    """Return the recorded accuracies of the linear models, after the last step, by share of mislabelled rows."""
    from service.analysis.comparison_figure import Values  # noqa: PLC0415

    members = [*losses.comparison()["members"], *mislabelled.comparison()["members"]]
    found: dict[tuple[float, str], list[float]] = {(share, loss): [] for share in MISLABELLED for loss in LOSSES}
    for member in members:
        overrides, value = member["overrides"], member["metrics"]["val/accuracy"]
        if overrides.get("model.layers", LINEAR) == LINEAR and value is not None:
            dataset = overrides.get("data.dataset", DATASET)
            (share,) = (share for share, name in MISLABELLED.items() if name == dataset)
            found[share, overrides["loss.type"]].append(value)
    return [Values(f"{share:.0%}", loss, values) for (share, loss), values in found.items()]


def table_of_groups(groups: Sequence[Group]) -> Table:
    """Table of each classifier's figures: mean and standard deviation over the seeds."""
    table = Table(
        title="On the validation rows, after the last step: mean ± standard deviation over the seeds",
        title_justify="left",
    )
    for heading in ("classifier", "n", *FIGURES):
        table.add_column(heading, justify="left" if heading == "classifier" else "right")
    for group in groups:
        found = [replica.figures() for replica in group.replicas]
        cells = (_spread([figures[name] for figures in found], digits) for name, digits in FIGURES.items())
        table.add_row(group.label, str(len(found)), *cells)
    table.caption = (
        "hinge, softmax: both losses of every classifier; calibration error: of its softmax, in 15 bins; margin: score "
        "of the true class − best other; active: training samples whose loss still has a gradient, in the last epoch"
    )
    table.caption_justify = "left"
    return table


def table_of_accuracies(found: Sequence[Values]) -> Table:
    """Table of accuracy by share of mislabelled rows, with the difference of softmax and hinge for each seed."""
    title = "Accuracy of the linear classifiers, after the last step, where training rows are mislabelled"
    table = Table(title=title, title_justify="left")
    for heading in ("mislabelled", *LOSSES, "softmax − hinge, by seed"):
        table.add_column(heading, justify="right")
    for setting in dict.fromkeys(each.setting for each in found):
        hinge, softmax = (
            next(each.values for each in found if (each.setting, each.loss) == (setting, loss)) for loss in LOSSES
        )
        differences = [higher - lower for higher, lower in zip(softmax, hinge, strict=True)]
        table.add_row(setting, _spread(hinge, 3), _spread(softmax, 3), _spread(differences, 3))
    return table


def _spread(values: Sequence[float], digits: int) -> str:
    import numpy as np  # noqa: PLC0415

    from service.analysis.comparison_figure import written  # noqa: PLC0415

    return written(np.array(values), digits)
