"""The costs of messages, bytes and additions on this machine, fitted to bursts between two workers."""

from __future__ import annotations

import secrets
from contextlib import closing
from time import perf_counter

import numpy as np
from scipy.optimize import nnls

from benchmarks.common.team import WARM, Share, Team
from benchmarks.distributed.gradfleet import connected
from benchmarks.scaling.model import FLOAT, Costs
from core import aligned_zeros
from workers.exchange.messages import KEY_BYTES, Kind

# Messages at once, and floats of each: what a worker receives in a phase from as many peers.
BURSTS = [(1, 16), (8, 16), (64, 16), (64, 1_000), (8, 10_000), (1, 100_000), (8, 100_000), (1, 1_000_000)]
ROUNDS = 15
TURN = 0.05  # seconds


class Burst:
    """Two workers send messages to each other, all at once, and then receive as many."""

    def __init__(self, rank: int, workers: int, share: Share, key: bytes, messages: int, floats: int) -> None:
        self._exchange = connected(rank, workers, share, key, memory=False)
        self._peer, self._messages, self._steps = 1 - rank, messages, 0
        self._out, inbox = (aligned_zeros((floats,), np.float32) for _ in range(2))
        self._exchange.receive_into(Kind.PARAMETERS, {self._peer: [inbox]})

    def __call__(self) -> None:
        steps = range(self._steps, self._steps + self._messages)
        for step in steps:
            self._exchange.send(Kind.PARAMETERS, step, self._peer, [self._out])
        for step in steps:
            self._exchange.receive(Kind.PARAMETERS, step)
        self._steps = steps.stop

    def result(self) -> int:
        return self._steps

    def close(self) -> None:
        self._exchange.close()


def measure() -> tuple[Costs, Costs]:
    """Return the costs in time while both workers send, and in CPU time of one worker."""
    seconds, processors = [], []
    for messages, floats in BURSTS:
        with closing(Team(Burst, 2, secrets.token_bytes(KEY_BYTES), messages, floats)) as team:
            fastest, each = undisturbed(team)
        seconds.append(fastest)
        processors.append(each)
    addition = addition_seconds()
    return fit(seconds, addition), fit(processors, addition)


def undisturbed(team: Team) -> tuple[float, float]:
    """Return seconds per step in the fastest turn, and the CPU seconds of one member's step."""
    steps = max(3, round(TURN / team.turn(3)))
    before = team.processor_seconds
    seconds = min(team.turn(steps) for _ in range(ROUNDS))
    return seconds, (team.processor_seconds - before) / (ROUNDS * (steps + WARM) * team.members)


def fit(seconds: list[float], addition: float) -> Costs:
    """Return the nonnegative costs with the smallest sum of squared relative errors."""
    counts = np.array([(1, messages, messages * floats * FLOAT) for messages, floats in BURSTS])
    (latency, message, byte), _ = nnls(counts / np.array(seconds)[:, None], np.ones(len(BURSTS)))
    return Costs(float(latency), float(message), float(byte), addition)


def addition_seconds(floats: int = 4_000_000, rounds: int = 15) -> float:
    """Return the seconds of one addition in vectors that are in memory, like those that a peer has just written."""
    left, right, out = (aligned_zeros((floats,), np.float32) for _ in range(3))
    times = []
    for _ in range(rounds):
        start = perf_counter()
        np.add(left, right, out=out)
        times.append(perf_counter() - start)
    return min(times) / floats
