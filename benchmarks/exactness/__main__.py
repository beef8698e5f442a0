"""Measure what exactness costs: `make bench-exactness`, or with ARGS=--quick.

Every subject has a process of its own, and they take turns within each round. The table goes to `docs/exactness.md`,
under "The price".
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.common.results import QUIET, about, installed, machine, speedup, write
from benchmarks.common.team import Team, take_turns
from benchmarks.common.workload import NETWORKS, Workload
from benchmarks.engine.gradfleet import GradfleetStep
from benchmarks.exactness.gradfleet import exact, flat, shard_per_thread
from workers.exchange.meeting import KEY_BYTES

TURN = 0.25  # seconds of a turn within a round, approximately
MEASURED = [NETWORKS[index] for index in (0, 1, 2, 6)]
FREE = ("flat", "shard per thread")
SUBJECTS = ("exact", *FREE, "PyTorch", "PyTorch, deterministic")
HEADER = (
    f"| network | threads | {' | '.join(SUBJECTS)} | exact : fastest free | quartiles |\n"
    f"|---|--:|{'--:|' * len(SUBJECTS)}--:|--:|"
)


def workloads() -> Iterator[Workload]:
    for widths, batch in MEASURED:
        for threads in (1, 2):
            yield Workload(widths, batch, "softmax", "sgd", threads)


def measure(workload: Workload, rounds: int) -> dict[str, Any]:
    """Return the figures of one network and number of threads, after a check that all subjects did the same work."""
    key = secrets.token_bytes(KEY_BYTES)
    with ExitStack() as stack:

        def team(*arguments: Any) -> Team:
            return stack.enter_context(closing(Team(*arguments)))

        teams = {"exact": team(exact, 1, key, workload), "flat": team(flat, 1, key, workload)}
        if workload.threads > 1:
            teams["shard per thread"] = team(shard_per_thread, 1, key, workload)
        if installed("torch"):
            from benchmarks.exactness.pytorch import TorchStep  # noqa: PLC0415

            weights = GradfleetStep(replace(workload, threads=1)).weights()
            teams["PyTorch"] = team(TorchStep, 1, workload, weights, "default")
            teams["PyTorch, deterministic"] = team(TorchStep, 1, workload, weights, "deterministic")
        times, processors = take_turns(teams, rounds, TURN)
        results = {name: each.results()[0] for name, each in teams.items()}
    losses = [result["loss"] for result in results.values()]
    if len({result["steps"] for result in results.values()}) > 1 or not np.allclose(losses, losses[0], rtol=1e-3):
        raise AssertionError(f"{workload.name}: not the same work: {results}")
    free = min((name for name in FREE if name in times), key=lambda name: np.median(times[name]))
    return {
        "network": workload.network,
        "threads": workload.threads,
        "microseconds": {name: round(1e6 * float(np.median(each)), 1) for name, each in times.items()},
        "fastest_free": free,
        # How many times as long as the fastest free step the exact one takes.
        "price": speedup(times[free], times["exact"]),
        **processors,
    }


def line(row: dict[str, Any]) -> str:
    """Return a row of the Markdown table."""
    times, price = row["microseconds"], row["price"]
    low, high = price["quartiles"]
    figures = " | ".join(f"{times[name]:,.0f}" if name in times else "" for name in SUBJECTS)
    return f"| {row['network']} | {row['threads']} | {figures} | {price['speedup']:.2f} | {low:.2f} to {high:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no files")
    parser.add_argument("--only", default="", help="rows whose name contains this: '784-10 at', '2 threads'")
    parser.add_argument("--name", help="name of the files in benchmarks/results; default: exactness and the date")
    arguments = parser.parse_args()
    setting = machine()
    rows = []
    print(HEADER, flush=True)
    for workload in (each for each in workloads() if arguments.only in each.name):
        rows.append(measure(workload, 5 if arguments.quick else 31))
        print(line(rows[-1]), flush=True)
    taken = max(row["processors_taken_by_others"] or 0 for row in rows)
    busy = f"The machine was not idle: other processes used up to {taken:.1f} CPUs.\n\n" if taken > QUIET else ""
    print(f"\n{about(setting)}.\n{busy}")
    if arguments.name or not arguments.quick:
        text = (
            "# What exactness costs\n\n"
            f"{about(setting)}.\n\n{busy}"
            "Microseconds of a training step in float32, medians; see docs/exactness.md for the subjects.\n\n"
            f"{HEADER}\n" + "\n".join(map(line, rows)) + "\n"
        )
        print(write(arguments.name or f"exactness-{setting['date']}", {"machine": setting, "rows": rows}, text))


if __name__ == "__main__":
    main()
