"""Compare steps, exchange and start of a distributed job: `make bench-distributed`, or with ARGS=--quick.

The teams of a row (one worker, two workers, PyTorch's two processes) run side by side and take turns within each round;
a team that waits uses no CPU.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common.results import ROOT, installed, machine
from benchmarks.common.team import Team, take_turns
from benchmarks.common.workload import Workload
from benchmarks.distributed import report
from benchmarks.distributed.gradfleet import ExchangeAlone, WorkerStep
from benchmarks.distributed.workload import FLOATS, workloads
from benchmarks.engine.gradfleet import GradfleetStep
from workers.exchange.messages import KEY_BYTES

PROJECT = ROOT / ".venv" / "bin" / "python"
TURN = 0.25  # seconds of a team's turn within a round, approximately


def step_row(workload: Workload, rounds: int) -> dict[str, Any]:
    """Return the figures of one network, after a check that all teams did the same work."""
    key = secrets.token_bytes(KEY_BYTES)
    with ExitStack() as stack:

        def team(*arguments: Any) -> Team:
            return stack.enter_context(closing(Team(*arguments)))

        teams = {
            "one": team(WorkerStep, 1, key, workload),
            "threads": team(WorkerStep, 1, key, replace(workload, threads=2)),
            "workers": team(WorkerStep, 2, key, workload),
        }
        if installed("torch"):
            from benchmarks.distributed.pytorch import DataParallelStep  # noqa: PLC0415

            teams["ddp"] = team(DataParallelStep, 2, workload, GradfleetStep(workload).weights())
        times, processors = take_turns(teams, rounds, TURN)
        check_same_work(workload, {name: each.results() for name, each in teams.items()})
    return report.step_row(workload, times) | processors


def check_same_work(workload: Workload, results: dict[str, list[dict[str, Any]]]) -> None:
    """Fail unless our parameters are bitwise equal and all losses are close."""
    everything = [result for members in results.values() for result in members]
    digests = {result["parameters"] for result in everything if "parameters" in result}
    losses = [result["loss"] for result in everything]
    if len({result["steps"] for result in everything}) > 1 or len(digests) > 1:
        raise AssertionError(f"{workload.name}: not the same steps or not the same parameters: {results}")
    if not np.allclose(losses, losses[0], rtol=1e-3):
        raise AssertionError(f"{workload.name}: not the same losses: {results}")


def exchange_row(floats: int, rounds: int) -> dict[str, Any]:
    """Return the figures of one length of vector, after a check of the sums."""
    with ExitStack() as stack:
        teams = {
            name: stack.enter_context(closing(Team(factory, 2, secrets.token_bytes(KEY_BYTES), floats)))
            for name, factory in (("gradfleet", ExchangeAlone), ("messages", partial(ExchangeAlone, memory=False)))
        }
        if installed("torch"):
            from benchmarks.distributed.pytorch import AllReduce  # noqa: PLC0415

            teams["gloo"] = stack.enter_context(closing(Team(AllReduce, 2, floats)))
        times, processors = take_turns(teams, rounds, TURN)
        for name, team in teams.items():
            if team.results() != [3.0 * floats] * 2:  # one worker has ones and the other twos
                raise AssertionError(f"{name} adds {floats} floats wrongly: {team.results()}")
    return report.exchange_row(floats, times) | processors


def start_rows(jobs: int) -> list[dict[str, Any]]:
    """Return the figures of every start, ours and Ray's."""
    rows = []
    ray = sys.executable if installed("ray") and installed("aiohttp") and installed("pandas") else None
    for script, python in (("first_loss", PROJECT if PROJECT.exists() else None), ("ray_start", ray)):
        if python is None:
            rows.append(report.start_row(script, [], 0))
        else:
            command = [str(python), "-m", f"benchmarks.distributed.{script}", str(jobs)]
            run = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(run.stdout)
            rows += [report.start_row(*each, found["disturbed"]) for each in found["seconds"].items()]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and jobs, no files")
    parser.add_argument("--only", choices=["step", "exchange", "start"], help="run one part")
    parser.add_argument("--name", help="name of the files in benchmarks/results; default: distributed and the date")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    wanted = [arguments.only] if arguments.only else ["step", "exchange", "start"]
    rounds = 5 if quick else 31

    setting = machine() | {"ray": installed("ray")}
    results: dict[str, Any] = {"machine": setting}
    if "step" in wanted:
        print(report.STEP_HEADER, flush=True)
        results["step"] = []
        for workload in workloads():
            results["step"].append(step_row(workload, rounds))
            print(report.step_line(results["step"][-1]), flush=True)
    if "exchange" in wanted:
        print(f"\n{report.EXCHANGE_HEADER}", flush=True)
        results["exchange"] = []
        for floats in FLOATS:
            results["exchange"].append(exchange_row(floats, rounds))
            print(report.exchange_line(results["exchange"][-1]), flush=True)
    if "start" in wanted:
        results["start"] = start_rows(3 if quick else 15)
        print(f"\n{report.START_HEADER}")
        print("\n".join(map(report.start_line, results["start"])), flush=True)
    print(f"\n{report.summary(results)}")
    if arguments.name or not quick:
        print(report.write(results, arguments.name or f"distributed-{setting['date']}"))


if __name__ == "__main__":
    main()
