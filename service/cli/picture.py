"""One picture of several jobs' curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PANELS = {
    "train/data_loss": "training loss (each job's own)",
    "val/accuracy": "validation accuracy",
    "train/active_fraction": "samples with a gradient",
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
            axes.plot(
                series[name]["steps"],
                series[name]["values"],
                label=job,
                color=COLORS[loss],
                linestyle=STYLES[model],
                linewidth=1.2,
            )
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if name == "train/data_loss":
            axes.set_yscale("symlog", linthresh=0.01)
        if name == "val/accuracy":
            axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
