"""Learning curves: the loss and the main metrics of the job's task, by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.analysis.style import BLUE, ORANGE, number_axes, panels, style_axes
from workers.data.arrow import nulls_of, values_of
from workers.data.splitting import steps_per_epoch
from workers.job.computation import Computation
from workers.job.data import split_sizes
from workers.job.metrics import epoch_mean
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from core import Task
    from workers.data.dataset import DatasetInfo

MOST_POINTS = 60  # of the band of training; each is the range of consecutive steps
FEW_EPOCHS = 30
LEGEND = 0.5  # inches below the panels
LARGEST_RATIO = 1e4  # of the largest and smallest value on a logarithmic scale
# Metrics that are drawn beside the loss, with a title and a unit.
_ACCURACY = ("accuracy", "accuracy", "share of samples")
_ACTIVE = ("active_fraction", "active fraction", "share of samples")
SHOWN: dict[Task, tuple[tuple[str, str, str], ...]] = {
    "classification": (_ACCURACY, _ACTIVE),
    "binary": (_ACCURACY, _ACTIVE),
    "multilabel": (("f1", "F1", "mean over the labels"), ("subset_accuracy", "subset accuracy", "share of samples")),
    "regression": (
        ("r2", "R²", "share of the variance"),
        ("mean_absolute_error", "mean absolute error", "in the targets' own units"),
    ),
}


def draw_learning_curves(
    name: str, spec: Mapping[str, Any], dataset: DatasetInfo, history: pa.Table, kept: int | None
) -> Figure:
    """Draw the full history of a job. `kept` is the step of the kept parameters, if they are known."""
    job = JobSpec.model_validate(spec)
    train_rows, _ = split_sizes(job, dataset)
    steps_of_epoch = steps_per_epoch(train_rows, job.training.batch_size)
    task = Computation.of(job, dataset, train_rows).task
    of = "" if kept is None else f" (kept parameters: step {kept:,})"
    # A smooth loss has a gradient at every sample.
    always = _series(history, "train/active_fraction")[1]
    shown = [each for each in SHOWN[task] if each != _ACTIVE or (always < 1).any()]
    title = f"{name}: learning curves{of}"
    figure, (first, *others) = panels(title, [2.9] * (1 + len(shown)), 2.5, names=(0, LEGEND))
    style_axes(first, "loss", "epoch", f"{job.loss.type} loss per sample")
    _draw(first, history, ("train/data_loss", "val/loss"), steps_of_epoch, kept)
    _scale(first, [_series(history, name)[1] for name in ("train/data_loss", "val/loss")])
    for axes, (metric, title, unit) in zip(others, shown, strict=True):
        names = f"train/{metric}", f"val/{metric}"
        mean = task == "regression" and dataset.targets > 1
        style_axes(axes, title, "epoch", f"mean over {dataset.targets} targets" if mean else unit)
        _draw(axes, history, names, steps_of_epoch, kept)
        _limit(axes, np.concatenate([_series(history, each)[1] for each in names]), share="error" not in metric)
    lines = {str(line.get_label()): line for line in first.get_legend_handles_labels()[0]}
    figure.legend(handles=list(lines.values()), frameon=False, fontsize=9, loc="lower center", ncols=2)
    for axes in (first, *others):
        number_axes(axes)
    return figure


def _has(history: pa.Table, name: str) -> bool:
    return name in history.column_names


def _series(history: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return steps and values of a series; none if the job does not have it."""
    if not _has(history, name):
        return np.empty(0, np.int64), np.empty(0)
    batch = history.combine_chunks().to_batches()[0]
    there = ~nulls_of(batch.column(name))
    return values_of(batch.column("step"))[there], values_of(batch.column(name))[there]


def _draw(axes: Axes, history: pa.Table, names: tuple[str, str], steps_of_epoch: int, kept: int | None) -> None:
    """Draw a figure in training and on the validation rows, and the step of the kept parameters."""
    training, validation = names
    steps, values = _series(history, training)
    means = _series(history, epoch_mean(training))
    if len(steps):
        _draw_range(axes, steps, values, steps_of_epoch)
        # In a single epoch its batches show more than their mean.
        drawn, label = (means, "training, mean of an epoch") if len(means[0]) > 1 else ((steps, values), "training")
        _draw_line(axes, *drawn, steps_of_epoch, color=BLUE, label=label)
    steps, values = _series(history, validation)
    if _has(history, validation):
        _draw_line(axes, steps, values, steps_of_epoch, color=ORANGE, label="validation")
    if kept is not None:
        axes.axvline(kept / steps_of_epoch, color="0.4", linestyle=":", linewidth=1.2, label="kept parameters")


def _draw_line(
    axes: Axes, steps: NDArray[np.int64], values: NDArray[np.float64], steps_of_epoch: int, *, color: str, label: str
) -> None:
    marker = "o" if len(steps) < FEW_EPOCHS else None
    axes.plot(steps / steps_of_epoch, values, linewidth=1.5, marker=marker, markersize=3, color=color, label=label)


def _draw_range(axes: Axes, steps: NDArray[np.int64], values: NDArray[np.float64], steps_of_epoch: int) -> None:
    """Draw a band for the range of the batches."""
    starts = np.unique(np.linspace(0, len(steps), min(MOST_POINTS, len(steps)), endpoint=False).astype(np.int64))
    counts = np.diff(np.append(starts, len(steps)))
    epochs = np.add.reduceat(steps, starts) / counts / steps_of_epoch
    lowest, highest = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    axes.fill_between(epochs, lowest, highest, color=BLUE, alpha=0.2, linewidth=0, label="range of batches")


def _limit(axes: Axes, values: NDArray[np.float64], *, share: bool) -> None:
    """Show 0 to 1 for shares from 0 to 1. Otherwise leave out values of the first epochs that are far from the rest."""
    values = values[np.isfinite(values)]
    if not len(values):
        return
    if share and values.min() >= 0 and values.max() <= 1:
        axes.set_ylim(-0.02, 1.02)
        return
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    reach = 3 * max(high - middle, middle - low)
    if reach > 0:
        bottom, top = max(values.min(), low - reach), min(values.max(), high + reach)
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))


def _scale(axes: Axes, losses: Sequence[NDArray[np.float64]]) -> None:
    """Use a logarithmic scale if the losses differ by an order of magnitude. Zeros are clipped."""
    values = np.concatenate(losses)
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() > 10 * values.min():
        axes.set_yscale("log", nonpositive="clip", subs=[])
        axes.set_ylim(max(values.min(), values.max() / LARGEST_RATIO) / 1.5, values.max() * 1.5)
