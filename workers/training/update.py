"""The update of the parameters from gradient sums, on the slice that a worker owns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from core import Clipping, Optimizer, ParameterLayout, Penalty, Step, aligned_zeros, update_statistics
from core.arrays import BLOCK, overlaps
from workers.data.splitting import split_evenly
from workers.exchange.collective import Collective
from workers.exchange.partition import SEGMENT
from workers.exchange.vectors import Addition, Vector
from workers.job.computation import Computation
from workers.machine.threads import Threads


class _Run(NamedTuple):
    """The part of a block whose parameters have the same multipliers, which are those of `core.plan.layout.Run`.

    `penalized` are ranges of its vectors.
    """

    parameters: Vector
    gradient: Vector
    state: Mapping[str, Vector]
    penalized: Sequence[tuple[int, int]]
    learning_rate: float
    decay: float


class _Block:
    """The update of a block that is short enough to stay in the cache from the first kernel to the last.

    `additions` make `gradient`, the sum over all shards, out of sums over some of them. All vectors are cut to the
    block, which is `place` in the flat vector of all parameters.
    """

    def __init__(
        self,
        layout: ParameterLayout,
        place: slice,
        *,
        additions: Sequence[Addition],
        gradient: Vector,
        parameters: Vector,
        state: Mapping[str, Vector],
        squares: Vector,
    ) -> None:
        self._layout, self._start = layout, place.start
        self._additions, self._gradient, self._squares = additions, gradient, squares
        self._parameters = parameters
        self._runs = []
        for run in layout.runs:
            for start, stop in overlaps([(run.start, run.stop)], place):
                part = slice(start - place.start, stop - place.start)
                penalized = overlaps(layout.penalized, slice(start, stop))
                self._runs.append(
                    _Run(
                        parameters[part],
                        gradient[part],
                        {slot: vector[part] for slot, vector in state.items()},
                        [(first - start, last - start) for first, last in penalized],
                        run.learning_rate,
                        run.decay,
                    )
                )
        self._has_statistics = any(overlaps(layout.statistics, place))

    def sum(self, rows: int, penalty: Penalty | None, scratch: Vector) -> None:
        """Compute the gradient of the mean loss over a batch of `rows`, and the sums of squares of its segments."""
        for into, source in self._additions:
            np.add(into, source, out=into)
        gradient = self._gradient
        np.divide(gradient, gradient.dtype.type(rows), out=gradient)
        if self._has_statistics:
            update_statistics(np, self._layout, self._parameters, gradient, start=self._start)
        for run in self._runs:
            if penalty is not None:
                for start, stop in run.penalized:
                    vectors = run.parameters[start:stop], run.gradient[start:stop]
                    penalty.add_gradient(np, *vectors, scratch, run.decay)
            if run.learning_rate == 0:
                run.gradient.fill(0)  # a parameter that is not trained has no part in the norm
        sum_squares_by_segment(gradient, self._squares)

    def clip(self, clipping: Clipping, norm: float) -> None:
        """Clip the gradient, given the norm of the gradient of all parameters."""
        clipping.clip(np, self._gradient, norm)

    def move(self, optimizer: Optimizer, learning_rate: float, step: int, scratch: Vector) -> None:
        """Move the parameters along the gradient."""
        for run in self._runs:
            its_step = Step(learning_rate * run.learning_rate, step, run.decay)
            moved = run.parameters, run.gradient, run.state
            optimizer.update(np, *moved, scratch, its_step, run.penalized)


class SliceUpdate:
    """The update of the slice `mine` of the parameters, on threads.

    `additions` make the collective's gradient, on that slice, out of sums over some of the shards.
    """

    def __init__(
        self,
        computation: Computation,
        mine: slice,
        collective: Collective,
        additions: Sequence[Addition],
        threads: Threads,
    ) -> None:
        self._optimizer, self._penalty, self._threads = computation.optimizer, computation.penalty, threads
        blocks = []
        for start in range(mine.start, mine.stop, BLOCK):
            place = slice(start, min(start + BLOCK, mine.stop))
            part = slice(place.start - mine.start, place.stop - mine.start)
            blocks.append(
                _Block(
                    computation.layout,
                    place,
                    additions=[(into[part], source[part]) for into, source in additions],
                    gradient=collective.gradient[part],
                    parameters=collective.parameters[place],
                    state={slot: vector[place] for slot, vector in collective.state.items()},
                    squares=collective.squares[place.start // SEGMENT : -(-place.stop // SEGMENT)],
                )
            )
        # A thread's blocks, and its scratch.
        self._lanes = [
            (blocks[part.start : part.stop], aligned_zeros((BLOCK,), collective.parameters.dtype))
            for part in split_evenly(len(blocks), min(len(blocks), threads.count) or 1)
        ]

    def _each(self, work: Callable[[_Block, Vector], None]) -> None:
        def walk(lane: tuple[Sequence[_Block], Vector]) -> None:
            blocks, scratch = lane
            for block in blocks:
                work(block, scratch)

        self._threads.run(walk, self._lanes)

    def sum(self, rows: int) -> None:
        """Compute the gradient and the sums of squares of its segments."""
        self._each(lambda block, scratch: block.sum(rows, self._penalty, scratch))

    def clip_and_move(self, clipping: Clipping, norm: float, learning_rate: float, step: int) -> None:
        """Clip the gradient and move the parameters along it."""

        def work(block: _Block, scratch: Vector) -> None:
            block.clip(clipping, norm)
            block.move(self._optimizer, learning_rate, step, scratch)

        self._each(work)

    def sum_and_move(self, rows: int, learning_rate: float, step: int) -> None:
        """Compute the gradient and move the parameters along it, where nothing needs the whole gradient in between."""

        def work(block: _Block, scratch: Vector) -> None:
            block.sum(rows, self._penalty, scratch)
            block.move(self._optimizer, learning_rate, step, scratch)

        self._each(work)


def sum_squares_by_segment(vector: Vector, out: Vector) -> None:
    """Sum of squares of each segment of `SEGMENT` values; the last may be shorter. `out` has one value per segment."""
    whole = vector.size // SEGMENT
    segments = vector[: whole * SEGMENT].reshape(whole, SEGMENT)
    np.vecdot(segments, segments, out=out[:whole])
    if whole < out.size:
        rest = vector[whole * SEGMENT :]
        out[whole] = np.vecdot(rest, rest)
