"""Results of the distributed benchmark as tables, with the project's goals, and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results as files
from benchmarks.common.results import QUIET, speedup
from benchmarks.common.workload import Workload

WORKERS_GOAL = 1.5  # times as fast as DistributedDataParallel, on every row
THREADS_GOAL, THREADS_ROW = 1.8, "3072-1024-1024-1024-10"  # times one thread, on this row
EXCHANGE_GOAL = 1.0  # times as fast as gloo
START_GOAL = 0.3  # seconds at the median


def goal(ratio: float | None, wanted: float) -> str:
    """Return a ratio and whether it meets its goal."""
    return "" if ratio is None else f"{ratio:.2f} ({'met' if ratio >= wanted else 'missed'}: {wanted:g})"


def quartiles(figures: dict[str, Any] | None) -> str:
    return "{:.2f} to {:.2f}".format(*figures["quartiles"]) if figures else ""


def medians(times: dict[str, list[float]], unit: float) -> dict[str, float]:
    return {name: round(float(np.median(values)) / unit, 3) for name, values in times.items()}


def step_row(workload: Workload, times: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "network": workload.network,
        "milliseconds": medians(times, 1e-3),
        "threads_over_one": speedup(times["threads"], times["one"]),
        "workers_over_ddp": speedup(times["workers"], times["ddp"]) if "ddp" in times else None,
    }


STEP_HEADER = (
    "| network | (a) 1 worker | (b) 2 threads | (c) 2 workers | DDP | DDP / (c) | quartiles | (a) / (b) | quartiles |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def step_line(figures: dict[str, Any]) -> str:
    times, ddp, threads = figures["milliseconds"], figures["workers_over_ddp"], figures["threads_over_one"]
    cells = [figures["network"]]
    cells += [f"{times[name]:.2f}" if name in times else "" for name in ("one", "threads", "workers", "ddp")]
    cells += [goal(ddp and ddp["speedup"], WORKERS_GOAL), quartiles(ddp)]
    counts = figures["network"].startswith(THREADS_ROW)
    cells += [goal(threads["speedup"], THREADS_GOAL) if counts else f"{threads['speedup']:.2f}", quartiles(threads)]
    return f"| {' | '.join(cells)} |"


def exchange_row(floats: int, times: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "floats": floats,
        "milliseconds": medians(times, 1e-3),
        "over_gloo": speedup(times["gradfleet"], times["gloo"]) if "gloo" in times else None,
    }


EXCHANGE_HEADER = "| floats | gradfleet | no memory | gloo | gloo / gradfleet | quartiles |\n|--:|--:|--:|--:|--:|--:|"


def exchange_line(figures: dict[str, Any]) -> str:
    times, gloo = figures["milliseconds"], figures["over_gloo"]
    cells = [f"{figures['floats']:,}"]
    cells += [f"{times[name]:.3f}" if name in times else "" for name in ("gradfleet", "messages", "gloo")]
    return f"| {' | '.join([*cells, goal(gloo and gloo['speedup'], EXCHANGE_GOAL), quartiles(gloo)])} |"


def start_row(subject: str, seconds: list[float], disturbed: int) -> dict[str, Any]:
    """Return a subject's figures; `disturbed` is the number of its stack's starts while the machine was busy."""
    low, median, high = np.quantile(seconds, (0.1, 0.5, 0.9)).round(3).tolist() if seconds else (None,) * 3
    return {
        "subject": subject,
        "starts": len(seconds),
        "median": median,
        "p10": low,
        "p90": high,
        "disturbed": disturbed,
    }


START_HEADER = "| until the first loss, or line | starts | median | p10 | p90 |\n|---|--:|--:|--:|--:|"


def start_line(figures: dict[str, Any]) -> str:
    if not figures["starts"]:
        return f"| {figures['subject']} | not installed | | | |"
    median = f"{figures['median']:.2f}"
    if figures["subject"].startswith("gradfleet"):
        median += f" ({'met' if figures['median'] < START_GOAL else 'missed'}: {START_GOAL:g})"
    cells = [figures["subject"], str(figures["starts"]), median, f"{figures['p10']:.2f}", f"{figures['p90']:.2f}"]
    return f"| {' | '.join(cells)} |"


def summary(results: dict[str, Any]) -> str:
    """Return how busy the machine was."""
    lines = []
    if disturbed := max((row["disturbed"] for row in results.get("start", ())), default=0):
        lines.append(f"The machine was not idle at {disturbed} starts of one stack.")
    rows = [*results.get("step", ()), *results.get("exchange", ())]
    taken = [row["processors_taken_by_others"] or 0.0 for row in rows]
    idle = [row["processors_taken_idle"] for row in rows]
    if rows:
        lines.append(f"Teams used at most {max(idle):.3f} CPUs while it was not their turn.")
    if max(taken, default=0.0) > QUIET:
        lines.append(
            f"The machine was not idle: other processes used up to {max(taken):.1f} CPUs, {np.mean(taken):.1f} on "
            "average, which slows teams of two down most."
        )
    return "\n".join(lines)


STEP = """\
## A step

Medians in milliseconds; whether a goal is met is in brackets. Softmax, SGD with momentum, two shards. (a) is one worker
with one thread, (b) one with two threads, (c) two with one thread each; the batch is gathered from a dataset in memory.
DDP is PyTorch's DistributedDataParallel over gloo, two processes with one thread each, which get tensors that are
ready; fused SGD, gradients as views of their buckets, a static graph. All train on the same batches. The benchmark
fails unless (a), (b) and (c) end with bitwise equal parameters and DDP ends with the same loss up to rounding."""
EXCHANGE = """\
## The exchange

Medians in milliseconds, two processes: our reduce-scatter and all-gather, and gloo's all-reduce. Workers on one machine
share memory; "no memory" is without shared memory, with all bytes over TCP, as between machines. Ours also carry
the table of shards and the sums of squares, as in a step."""
START = """\
## The start

Seconds on an idle stack, one start after another. Ours end when the first loss is read over REST, polled every 5 ms
after the POST. Ray's end when the first line of the user's code runs: a script submitted through its job API, and a
training function of Ray Train, from `fit()` in a program that is connected."""


def write(results: dict[str, Any], name: str) -> Path:
    """Write the results as JSON and as Markdown, and return the path of the Markdown."""
    parts = ["# A distributed job compared with other tools", f"{files.about(results['machine'])}.", summary(results)]
    tables = (
        ("step", STEP, STEP_HEADER, step_line),
        ("exchange", EXCHANGE, EXCHANGE_HEADER, exchange_line),
        ("start", START, START_HEADER, start_line),
    )
    for part, text, header, line in tables:
        if part in results:
            parts += [text, "\n".join([header, *map(line, results[part])])]
    return files.write(name, results, "\n\n".join(filter(None, parts)) + "\n")
