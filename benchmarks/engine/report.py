"""Results of the engine's benchmark as tables and as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

import numpy as np

from benchmarks.common import results
from benchmarks.common.results import QUIET, speedup
from benchmarks.common.workload import Workload
from benchmarks.engine.networks import ImageWorkload

IMAGE_PEERS = ("eager", "eager last", "compiled last")
PEERS = {"compiled", *IMAGE_PEERS}


@dataclass(frozen=True)
class Table:
    """A table: the subjects whose times and whose memory are shown, and whether loss and optimizer are.

    `about` says what is measured.
    """

    name: str
    times: tuple[str, ...]
    memory: tuple[str, ...]
    settings: tuple[str, ...]
    about: str

    @property
    def header(self) -> str:
        cells = ["network", *self.settings, "threads", *self.times, "speed-up", "quartiles"]
        cells += [f"MiB {subject}".removesuffix(" gradfleet") for subject in self.memory]
        texts = 1 + len(self.settings)
        return f"| {' | '.join(cells)} |\n|{'---|' * texts}{'--:|' * (len(cells) - texts)}"

    def line(self, figures: dict[str, Any]) -> str:
        """Return a row of the Markdown table."""

        def number(value: float | None, form: str = ",.0f") -> str:
            return "" if value is None else format(value, form)

        times, memory = figures["microseconds"], figures["memory_mib"]
        low, high = figures.get("quartiles", (None, None))
        cells = [figures["network"], *(figures[each] for each in self.settings), str(figures["threads"])]
        cells += [number(times.get(subject)) for subject in self.times]
        cells += [number(figures.get("speedup"), ".2f"), f"{low:.2f} to {high:.2f}" if low else ""]
        cells += [number(memory.get(subject)) for subject in self.memory]
        return f"| {' | '.join(cells)} |"


NETWORKS = Table(
    "engine",
    ("floor", "gradfleet", "eager", "compiled"),
    ("gradfleet", "eager"),
    ("loss", "optimizer"),
    "Forward, backward and update in float32; medians in microseconds. The speed-up is over the faster of eager\n"
    "and compiled, whose optimizers are fused; floor is the matrix products alone.",
)
IMAGES = Table(
    "engine-images",
    ("floor", "gradfleet", *IMAGE_PEERS),
    ("gradfleet", "eager", "eager last"),
    (),
    "Networks: forward, backward and update, softmax, SGD with momentum, no dropout, in float32. Single convolutions:\n"
    "forward and all gradients, without that of the images for first layers. Medians in microseconds. The speed-up is\n"
    'over the fastest form of PyTorch: contiguous or channels-last images ("last"), eager or compiled. Floor is the\n'
    "matrix products alone, of windows that are rows of a matrix already.",
)


def row(
    workload: Workload | ImageWorkload,
    times: dict[str, list[float]],
    memory: dict[str, float | None],
    others: float | None,
) -> dict[str, Any]:
    """Return a row: microseconds by subject, memory in MiB, and the speed-up over the faster form of PyTorch."""
    medians = {subject: float(np.median(values)) for subject, values in times.items()}
    figures: dict[str, Any] = {
        "network": workload.name.rpartition(", ")[0] if isinstance(workload, ImageWorkload) else workload.network,
        "loss": workload.loss,
        "optimizer": workload.optimizer,
        "threads": workload.threads,
        "microseconds": {subject: round(value, 1) for subject, value in medians.items()},
        "memory_mib": {subject: value and round(value, 1) for subject, value in memory.items()},
        "processors_taken_by_others": others and round(others, 2),
    }
    peers = [subject for subject in times if subject in PEERS]
    if peers:
        peer = min(peers, key=medians.__getitem__)
        figures |= {"peer": peer} | speedup(times["gradfleet"], times[peer])
    return figures


def summary(rows: list[dict[str, Any]]) -> str:
    """Return geometric means and the slowest row, of the rows that were compared with PyTorch."""
    compared = [each for each in rows if "speedup" in each]
    if not compared:
        return "There is no comparison: PyTorch is not installed."
    lines = []
    for threads in sorted({each["threads"] for each in compared}):
        ratios = [each["speedup"] for each in compared if each["threads"] == threads]
        slower = sum(ratio < 1 for ratio in ratios)
        lines.append(
            f"{threads} thread{'s' * (threads > 1)}: {geometric_mean(ratios):.2f} times as fast in the geometric "
            f"mean of {len(ratios)} rows; slowest row {min(ratios):.2f}, {slower} below 1."
        )
    everything = geometric_mean(each["speedup"] for each in compared)
    lines.append(f"All rows: {everything:.2f}.")
    taken = [each["processors_taken_by_others"] or 0 for each in rows]
    if max(taken) > QUIET:
        lines.append(
            f"The machine was not idle: other processes used up to {max(taken):.1f} CPUs, {mean(taken):.1f} on "
            "average. Then rows of several threads mean nothing, since PyTorch's threads wait for each other."
        )
    return "\n".join(lines)


def write(setting: dict[str, Any], rows: list[dict[str, Any]], name: str, table: Table) -> Path:
    """Write the results as JSON and as Markdown, and return the path of the Markdown."""
    text = (
        "# A training step of the engine compared with PyTorch\n\n"
        f"{results.about(setting)}.\n\n"
        f"{table.about} Subjects take turns within\n"
        "a round. MiB is the peak of a step, on one thread.\n\n"
        f"{summary(rows)}\n\n{table.header}\n" + "\n".join(map(table.line, rows)) + "\n"
    )
    return results.write(name, {"machine": setting, "rows": rows}, text)
