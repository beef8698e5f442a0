"""The benchmark's results as a table for people and a file for programs."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

import numpy as np
from workload import Workload

RESULTS = Path(__file__).parent / "results"
QUIET = 0.1  # processors that others may take


def machine(torch_version: str | None) -> dict[str, Any]:
    """Return when, on what and with what the measurements are made."""
    name = platform.processor() or platform.machine()
    if (information := Path("/proc/cpuinfo")).exists():
        models = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "torch": torch_version,
    }


def speedup(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Return how many times as fast we are, and the quartiles of that.

    It is of the medians, as the tables show them; the quartiles are of the rounds, within which noise cancels.
    """
    low, high = np.quantile(np.divide(theirs, ours), (0.25, 0.75))
    ratio = float(np.median(theirs) / np.median(ours))
    return {"speedup": round(ratio, 3), "quartiles": [round(float(low), 3), round(float(high), 3)]}


def row(
    workload: Workload, times: dict[str, list[float]], memory: dict[str, float | None], others: float | None
) -> dict[str, Any]:
    """Return the figures of a row: microseconds by subject, memory in MiB, and the speed-up over the faster peer."""
    medians = {subject: float(np.median(values)) for subject, values in times.items()}
    figures: dict[str, Any] = {
        "network": workload.network,
        "loss": workload.loss,
        "optimizer": workload.optimizer,
        "threads": workload.threads,
        "microseconds": {subject: round(value, 1) for subject, value in medians.items()},
        "memory_mib": {subject: value and round(value, 1) for subject, value in memory.items()},
        "processors_taken_by_others": others and round(others, 2),
    }
    peers = [subject for subject in times if subject in {"eager", "compiled"}]
    if peers:
        peer = min(peers, key=medians.__getitem__)
        figures |= {"peer": peer} | speedup(times["gradfleet"], times[peer])
    return figures


HEADER = (
    "| network | loss | optimizer | threads | floor | gradfleet | eager | compiled "
    "| speed-up | quartiles | MiB | MiB eager |\n"
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def line(figures: dict[str, Any]) -> str:
    """Return a row of the Markdown table."""

    def number(value: float | None, form: str = ",.0f") -> str:
        return "" if value is None else format(value, form)

    times, memory = figures["microseconds"], figures["memory_mib"]
    low, high = figures.get("quartiles", (None, None))
    cells = [figures["network"], figures["loss"], figures["optimizer"], str(figures["threads"])]
    cells += [number(times.get(subject)) for subject in ("floor", "gradfleet", "eager", "compiled")]
    cells += [number(figures.get("speedup"), ".2f"), f"{low:.2f} to {high:.2f}" if low else ""]
    cells += [number(memory.get(subject)) for subject in ("gradfleet", "eager")]
    return f"| {' | '.join(cells)} |"


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the geometric means and the slowest row, over the rows that have a peer."""
    compared = [each for each in rows if "speedup" in each]
    if not compared:
        return "Nothing to compare with: PyTorch is not installed."
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
            f"Not a quiet machine: other processes took up to {max(taken):.1f} processors, {mean(taken):.1f} on "
            "average. Rows of several threads mean nothing then: PyTorch's threads wait for each other all the time."
        )
    return "\n".join(lines)


def write(setting: dict[str, Any], rows: list[dict[str, Any]], name: str) -> Path:
    """Write the results as JSON and as Markdown, and return the latter's path."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": setting, "rows": rows}, indent=1) + "\n")
    about = ", ".join(f"{key} {value}" for key, value in setting.items())
    path = RESULTS / f"{name}.md"
    text = (
        "# A training step of the engine beside PyTorch's\n\n"
        f"{about}.\n\n"
        "Forward, backward and update in float32; medians in microseconds. The speed-up is over the faster of eager\n"
        "and compiled, whose optimizers are fused; floor is the matrix products alone. Subjects take turns within a\n"
        "round. MiB is the peak of a step, on one thread.\n\n"
        f"{summary(rows)}\n\n{HEADER}\n" + "\n".join(map(line, rows)) + "\n"
    )
    path.write_text(text)
    return path
