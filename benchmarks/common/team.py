"""Teams of processes that run as long as the benchmark and are measured in turns."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from benchmarks.common.processors import seconds_of_others
from benchmarks.common.timing import rotated

WARM = 2  # steps before those that are timed: they synchronize the members and fill the caches
RESULT, READY = "result", "ready"

# Takes a member's value and returns the values of all members in order of rank. All members must call it.
Share = Callable[[Any], list[Any]]


class Subject(Protocol):
    """One member's part of what is measured; `factory(rank, members, share, *arguments)` makes it."""

    def __call__(self) -> None:
        """Do one step, together with the other members."""

    def result(self) -> Any:
        """Return the result of the steps so far."""

    def close(self) -> None:
        """Close threads and sockets."""


def _run(pipe: Connection, factory: Callable[..., Subject], rank: int, members: int, arguments: Sequence[Any]) -> None:
    def share(mine: Any) -> list[Any]:
        pipe.send(mine)
        return pipe.recv()

    with threadpool_limits(1):
        subject = factory(rank, members, share, *arguments)
        pipe.send(READY)
        taken = process_time()
        while (order := pipe.recv()) is not None:
            idle = process_time() - taken
            if order == RESULT:
                pipe.send(subject.result())
            else:
                for _ in range(WARM):
                    subject()
                start = perf_counter()
                for _ in range(order):
                    subject()
                pipe.send(((perf_counter() - start) / order, idle, process_time()))
            taken = process_time()
        subject.close()


class Team:
    """Members, each in its own process, that sleep until it is their turn."""

    def __init__(self, factory: Callable[..., Subject], members: int, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.members = members
        self._processes, self._pipes = [], []
        for rank in range(members):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(theirs, factory, rank, members, arguments), daemon=True)
            process.start()
            theirs.close()  # so that the end of a member raises EOFError
            self._processes.append(process)
            self._pipes.append(ours)
        while (shared := self._receive()) != [READY] * members:
            self._send(shared)
        # CPU seconds of the members: all of them, and those while it was not their turn.
        self.processor_seconds, self.idle_seconds = 0.0, 0.0

    def _send(self, order: Any) -> None:
        for pipe in self._pipes:
            pipe.send(order)

    def _receive(self) -> list[Any]:
        return [pipe.recv() for pipe in self._pipes]

    def turn(self, steps: int) -> float:
        """Return seconds per step of the first member; the others are in step with it."""
        self._send(steps)
        seconds, idle, taken = zip(*self._receive(), strict=True)
        self.idle_seconds += sum(idle)
        self.processor_seconds = sum(taken)
        return seconds[0]

    def results(self) -> list[Any]:
        """Return every member's result, in order of rank."""
        self._send(RESULT)
        return self._receive()

    def close(self) -> None:
        self._send(None)
        for process in self._processes:
            process.join()


def take_turns(teams: Mapping[str, Team], rounds: int, turn: float) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return seconds per step by team and round, and the CPUs that were used meanwhile by something else.

    All teams make the same number of steps, so that a turn of the slowest team takes `turn` seconds. The CPUs are those
    that teams used while it was not their turn, and those that other processes used.
    """
    steps = max(1, round(turn / max(team.turn(3) for team in teams.values())))
    times: dict[str, list[float]] = {name: [] for name in teams}
    names = list(teams)
    start, others = perf_counter(), seconds_of_others()
    busy, idle = (sum(getattr(team, each) for team in teams.values()) for each in ("processor_seconds", "idle_seconds"))
    for number in range(rounds):
        for name in rotated(names, number):
            times[name].append(teams[name].turn(steps))
    seconds, after = perf_counter() - start, seconds_of_others()
    busy = sum(team.processor_seconds for team in teams.values()) - busy
    idle = sum(team.idle_seconds for team in teams.values()) - idle
    taken = None if others is None or after is None else round((after - others - busy) / seconds, 3)
    return times, {"processors_taken_idle": round(idle / seconds, 3), "processors_taken_by_others": taken}
