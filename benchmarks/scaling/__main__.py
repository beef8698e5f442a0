"""Measure costs on this machine, compare the model with measurements, apply it to many machines: `make scaling`.

It writes docs/scaling.md and its picture.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks.common.results import machine
from benchmarks.common.team import Team, take_turns
from benchmarks.common.workload import Workload
from benchmarks.distributed.gradfleet import ExchangeAlone
from benchmarks.distributed.workload import FLOATS, workloads
from benchmarks.engine.gradfleet import GradfleetStep
from benchmarks.scaling import costs as measured_costs
from benchmarks.scaling import page
from benchmarks.scaling.curves import Network, curve
from benchmarks.scaling.model import Costs, all_gather, reduce_scatter
from workers.exchange.messages import KEY_BYTES

LOCAL_WORKERS = (2, 3, 4, 8)
REPEATS = 15


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


def compared_with_measurements(costs: Costs, work: Costs, processors: int) -> list[dict[str, Any]]:
    """Return predicted and measured seconds of the exchange alone, with all workers on this machine.

    Once without shared memory, as between machines, and once with it, where no bytes are moved.
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
                    times, taken = take_turns({"exchange": team}, measured_costs.ROUNDS, measured_costs.TURN)
                check["shared" if memory else "messages"] = {
                    "predicted": max(sum(map(alone.phase, phases)), together),
                    "measured": min(times["exchange"]),
                    "others": taken["processors_taken_by_others"],
                }
            rows.append(check)
    return rows


def main() -> None:
    with threadpool_limits(1):
        setting = machine()
        costs, work = measured_costs.measure()
        checks = compared_with_measurements(costs, work, setting["cores"])
        networks = [network(workload) for workload in workloads()]
    curves = [(measured, curve(measured, costs)) for measured in networks]
    print(page.write(setting, costs, checks, curves))


if __name__ == "__main__":
    main()
