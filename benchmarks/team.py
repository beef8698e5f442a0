"""Processes that do something together, live as long as the benchmark, and are measured a turn at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any, Protocol

from processors import seconds_of_others
from threadpoolctl import threadpool_limits

WARM = 2  # steps before those that count: they bring the members in step, and the data into the caches
RESULT, READY = "result", "ready"

# Takes a member's value and gives every member's, in order of rank; all must call it.
Share = Callable[[Any], list[Any]]


class Subject(Protocol):
    """One member's part of what is measured; `factory(rank, members, share, *arguments)` makes it."""

    def __call__(self) -> None:
        """Do one step, together with the other members."""

    def result(self) -> Any:
        """Return what the steps so far came to."""

    def close(self) -> None:
        """Let go of threads and sockets."""


def _live(pipe: Connection, factory: Callable[..., Subject], rank: int, members: int, arguments: Sequence[Any]) -> None:
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
    """Members, each in a process of its own, that wait without taking a processor until it is their turn."""

    def __init__(self, factory: Callable[..., Subject], members: int, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.members = members
        self._processes, self._pipes = [], []
        for rank in range(members):
            ours, theirs = context.Pipe()
            process = context.Process(target=_live, args=(theirs, factory, rank, members, arguments), daemon=True)
            process.start()
            theirs.close()  # so that the end of a member is noticed
            self._processes.append(process)
            self._pipes.append(ours)
        while (shared := self._hear()) != [READY] * members:
            self._tell(shared)
        # Of the members' processors: taken so far, and taken while it was not their turn.
        self.processor_seconds, self.idle_seconds = 0.0, 0.0

    def _tell(self, order: Any) -> None:
        for pipe in self._pipes:
            pipe.send(order)

    def _hear(self) -> list[Any]:
        return [pipe.recv() for pipe in self._pipes]

    def turn(self, steps: int) -> float:
        """Return seconds per step of the first member, with which all others keep step."""
        self._tell(steps)
        seconds, idle, taken = zip(*self._hear(), strict=True)
        self.idle_seconds += sum(idle)
        self.processor_seconds = sum(taken)
        return seconds[0]

    def results(self) -> list[Any]:
        """Return every member's result, in order of rank."""
        self._tell(RESULT)
        return self._hear()

    def close(self) -> None:
        self._tell(None)
        for process in self._processes:
            process.join()


def take_turns(teams: Mapping[str, Team], rounds: int, turn: float) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return seconds per step by team and round, and what else took processors meanwhile.

    All teams make the same number of steps, so many that a turn of the slowest takes `turn` seconds. The processors are
    in units of one: those that the teams took while it was not their turn, and those of other processes.
    """
    steps = max(1, round(turn / max(team.turn(3) for team in teams.values())))
    times: dict[str, list[float]] = {name: [] for name in teams}
    names = list(teams)
    start, others = perf_counter(), seconds_of_others()
    busy, idle = (sum(getattr(team, each) for team in teams.values()) for each in ("processor_seconds", "idle_seconds"))
    for number in range(rounds):
        # Whoever goes first meets the caches of whoever went last; so all take that place in turn.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(teams[name].turn(steps))
    seconds, after = perf_counter() - start, seconds_of_others()
    busy = sum(team.processor_seconds for team in teams.values()) - busy
    idle = sum(team.idle_seconds for team in teams.values()) - idle
    taken = None if others is None or after is None else round((after - others - busy) / seconds, 3)
    return times, {"processors_taken_idle": round(idle / seconds, 3), "processors_taken_by_others": taken}
