"""Learning curves: loss, accuracy and the share of active samples by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.analysis.style import BLUE, ORANGE, panels, style_axes
from workers.data.arrow import nulls_of, values_of
from workers.data.splitting import steps_per_epoch
from workers.job.data import split_sizes
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from workers.data.dataset import DatasetInfo

MOST_POINTS = 60  # of the training curve; each is the mean of consecutive steps
FEW_EPOCHS = 30
LARGEST_RATIO = 1e4  # of the largest and smallest value on a logarithmic scale
PANELS = (
    ("loss", "train/data_loss", "val/loss"),
    ("accuracy", "train/accuracy", "val/accuracy"),
    ("active fraction", "train/active_fraction", None),
)


def draw_learning_curves(
    name: str, spec: Mapping[str, Any], dataset: DatasetInfo, history: pa.Table, kept: int | None
) -> Figure:
    """Draw the full history of a job. `kept` is the step of the best checkpoint, if there is one."""
    job = JobSpec.model_validate(spec)
    train_rows, _ = split_sizes(job, dataset)
    steps_of_epoch = steps_per_epoch(train_rows, job.training.batch_size)
    figure, all_axes = panels(f"{name}: learning curves", [2.9] * len(PANELS), 2.5)
    for axes, (title, train, validation) in zip(all_axes, PANELS, strict=True):
        style_axes(
            axes, title, "epoch", f"{spec['loss']['type']} loss per sample" if title == "loss" else "share of samples"
        )
        _draw_steps(axes, *_series(history, train), steps_of_epoch)
        if validation is not None:
            steps, values = _series(history, validation)
            marker = "o" if len(steps) < FEW_EPOCHS else None
            axes.plot(steps / steps_of_epoch, values, color=ORANGE, label="validation", marker=marker, markersize=3)
            if kept is not None:
                axes.axvline(kept / steps_of_epoch, color="0.4", linestyle=":", linewidth=1, label="best checkpoint")
        if title == "loss":
            _scale(axes, history)
            axes.legend(frameon=False, fontsize=9, loc="upper right")
        else:
            axes.set_ylim(-0.02, 1.02)
    return figure


def _series(history: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    batch = history.combine_chunks().to_batches()[0]
    there = ~nulls_of(batch.column(name))
    return values_of(batch.column("step"))[there], values_of(batch.column(name))[there]


def _draw_steps(axes: Axes, steps: NDArray[np.int64], values: NDArray[np.float64], steps_of_epoch: int) -> None:
    """Draw the mean of consecutive steps, and a band for the range of their values."""
    starts = np.unique(np.linspace(0, len(steps), min(MOST_POINTS, len(steps)), endpoint=False).astype(np.int64))
    counts = np.diff(np.append(starts, len(steps)))
    epochs = np.add.reduceat(steps, starts) / counts / steps_of_epoch
    lowest, highest = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    axes.fill_between(epochs, lowest, highest, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(
        epochs, np.add.reduceat(values, starts) / counts, color=BLUE, label="training, range of batches", linewidth=1.5
    )


def _scale(axes: Axes, history: pa.Table) -> None:
    """Use a logarithmic scale if the losses differ by an order of magnitude. Zeros are clipped."""
    values = np.concatenate([_series(history, name)[1] for name in ("train/data_loss", "val/loss")])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values) and values.max() > 10 * values.min():
        axes.set_yscale("log", nonpositive="clip", subs=[])
        axes.set_ylim(max(values.min(), values.max() / LARGEST_RATIO) / 1.5, values.max() * 1.5)
