"""One picture of several jobs' curves."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PANELS = {
    "train/data_loss": "training loss, each job's own",
    "val/accuracy": "validation accuracy",
    "train/active_fraction": "training samples with a gradient",
}
COLORS = {"hinge": "tab:blue", "softmax": "tab:orange"}
STYLES = {"linear": "--", "hidden": "-"}


def draw_curves(metrics: Mapping[str, Mapping[str, Mapping[str, list[float]]]], path: Path) -> None:
    """Draw the series of each job, `{"<loss>-<model>": {name: {"steps": ..., "values": ...}}}`, as a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415  it takes half a second to import

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for job, series in metrics.items():
            loss, model = job.split("-")
            steps, values = _by_epoch(series[name], series["val/accuracy"]["steps"])
            axes.plot(steps, values, label=job, color=COLORS[loss], linestyle=STYLES[model])
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if name == "train/data_loss":
            axes.set_yscale("log")
        if name == "val/accuracy":
            axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _by_epoch(series: Mapping[str, list[float]], ends: list[float]) -> tuple[list[float], list[float]]:
    """The mean of a series over each epoch; `ends` are the epochs' last steps."""
    values: dict[float, list[float]] = {end: [] for end in ends}
    for step, value in zip(series["steps"], series["values"], strict=True):
        values[ends[bisect_left(ends, step)]].append(value)
    return ends, [sum(part) / len(part) for part in values.values()]
