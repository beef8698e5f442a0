"""Seconds of a step of a network with any number of workers, each on its own machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.scaling.model import Costs, exchange_seconds, halving_seconds

WORKERS = [1 << power for power in range(11)]
LINK = 25e9 / 8  # bytes a second, each way: the assumed Ethernet
FARTHER = 20e-6  # seconds of network cards, cables and a switch, in addition to the loopback interface


@dataclass(frozen=True)
class Network:
    """A network, with the seconds of its gradients by number of rows and of a whole update, on one thread."""

    name: str
    batch: int
    parameters: int
    gradients: dict[int, float]
    update: float


@dataclass(frozen=True)
class Point:
    """Seconds of a step with a number of workers; `compute` is None if a worker would have less than one row."""

    workers: int
    compute: float | None
    exchange: float
    halving: float
    wire: float


def far(costs: Costs, *, byte: float) -> Costs:
    """Return the costs between machines."""
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
