"""How far a job scales: the model of the exchange with this machine's costs, held against it, then on many machines.

`python benchmarks/scaling.py` writes docs/scaling.md and its picture.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import message_cost
import scaling_page
from distributed_step import ExchangeAlone
from distributed_workload import FLOATS, workloads
from exchange_model import Costs, all_gather, exchange_seconds, halving_seconds, reduce_scatter
from gradfleet_step import GradfleetStep
from report import machine
from team import Team, take_turns
from threadpoolctl import threadpool_limits
from workload import Workload

from workers.exchange.zeromq import KEY_BYTES

WORKERS = [1 << power for power in range(11)]
LOCAL_WORKERS = (2, 3, 4, 8)
LINK = 25e9 / 8  # bytes a second, each way: the Ethernet that is assumed
FARTHER = 20e-6  # seconds of cards, cables and a switch that a message on the loopback interface does not meet
REPEATS = 15


@dataclass(frozen=True)
class Network:
    """What the model needs of a network: seconds of its gradients, by rows, and of a whole update, on one thread."""

    name: str
    batch: int
    parameters: int
    gradients: dict[int, float]
    update: float


@dataclass(frozen=True)
class Point:
    """Seconds of a step with a number of workers; `compute` is None where a worker would have less than a row."""

    workers: int
    compute: float | None
    exchange: float
    halving: float
    wire: float


def network(workload: Workload) -> Network:
    """Measure a network on one thread, with a batch of every power of two of rows."""
    rows = [1 << power for power in range(workload.batch.bit_length())]
    gradients = {}
    for count in rows:
        with closing(GradfleetStep(replace(workload, batch=count))) as step:
            gradients[count] = fastest(lambda step=step: step.gradients(0))
            update = fastest(lambda step=step: step.update(0))
    widths = zip(workload.widths, workload.widths[1:], strict=False)
    return Network(workload.network, workload.batch, sum((i + 1) * o for i, o in widths), gradients, update)


def fastest(work: Callable[[], None]) -> float:
    times = []
    for _ in range(REPEATS + 1):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times[1:])


def far(costs: Costs, *, byte: float) -> Costs:
    """Return the costs between machines; a byte takes as long as the slower of link and machine."""
    return replace(costs, latency=costs.latency + FARTHER, byte=byte)


def curve(measured: Network, costs: Costs) -> list[Point]:
    """Return the seconds of a step of the network's batch for every number of workers."""
    now, wire = far(costs, byte=max(costs.byte, 1 / LINK)), far(costs, byte=1 / LINK)
    points = []
    for workers in WORKERS:
        rows = measured.batch // workers
        points.append(
            Point(
                workers,
                compute=measured.gradients[rows] + measured.update / workers if rows else None,
                exchange=exchange_seconds(workers, workers, measured.parameters, now),
                halving=halving_seconds(workers, measured.parameters, now),
                wire=halving_seconds(workers, measured.parameters, wire),
            )
        )
    return points


def held_against_this_machine(costs: Costs, work: Costs, processors: int) -> list[dict[str, Any]]:
    """Return predictions beside measurements of the exchange alone, with all workers on this machine.

    Without shared memory, as the model has it between machines; and with it, where no bytes are moved.
    """
    rows = []
    for floats in FLOATS:
        for workers in LOCAL_WORKERS:
            check: dict[str, Any] = {"floats": floats, "workers": workers}
            phases = (reduce_scatter(workers, workers, floats), all_gather(workers, floats))
            for memory in (False, True):
                alone, total = (replace(each, byte=0.0) if memory else each for each in (costs, work))
                together = sum(map(total.work, phases)) / processors
                factory = partial(ExchangeAlone, memory=memory)
                with closing(Team(factory, workers, secrets.token_bytes(KEY_BYTES), floats)) as team:
                    times, taken = take_turns({"exchange": team}, message_cost.ROUNDS, message_cost.TURN)
                check["shared" if memory else "messages"] = {
                    "predicted": max(sum(map(alone.phase, phases)), together),
                    "measured": min(times["exchange"]),
                    "others": taken["processors_taken_by_others"],
                }
            rows.append(check)
    return rows


def main() -> None:
    with threadpool_limits(1):
        setting = machine(None)
        costs, work = message_cost.measure()
        checks = held_against_this_machine(costs, work, setting["cores"])
        networks = [network(workload) for workload in workloads()]
    curves = [(measured, curve(measured, costs)) for measured in networks]
    print(scaling_page.write(setting, costs, checks, curves))


if __name__ == "__main__":
    main()
