"""The gradient check: compares backward with differences of forward, in float64, to about nine digits."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import inf, isfinite, isnan, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from core.arrays import along_rows
from core.gradcheck.differences import FINE_STEPS, Differences
from core.gradcheck.report import TOLERANCE, GradientReport, Outcome, TensorCheck
from core.gradcheck.rounding import Rounding
from core.gradcheck.rules import Rules, vanishes
from core.gradcheck.setting import Setting
from core.random import Purpose, generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from core.arrays import Array
    from core.graph.graph import Graph

#: most entries of a Jacobian that is checked entry by entry; a larger one is checked along random directions
WHOLE_JACOBIAN = 4_096
#: most multiplications, about, of one forward pass for each entry of a variable; above, directions are checked
WHOLE_WORK = 2**26
#: as many directions are checked, but one where a forward pass takes more multiplications than this. Two errors cancel
#: each other along a direction only by chance, since all its entries are different.
DIRECTIONS = 4
LARGE_WORK = 2**21
RESAMPLINGS = 20


@np.errstate(all="ignore")
def check_graph(graph: Graph, output: str, inputs: Mapping[str, npt.ArrayLike], seed: int = 0) -> GradientReport:
    """Check the gradients of a node's value with respect to every float input and every parameter.

    Nodes are in training mode, with random numbers that depend on `seed`. Parameters are drawn by `seed` from a normal
    distribution, of variance 1 / inputs for weights and 1 for biases, and so are upstream gradients; `inputs` are as
    given. Derivatives are five-point central differences. If a stencil crosses a kink, a smaller step is tried, then
    another direction where there is a choice; otherwise the entry is skipped and counted. If a difference disagrees
    with backward, other steps are tried.

    A derivative is right if it agrees to `TOLERANCE` of the tensor's scale, and to `TOLERANCE` of its own size but for
    rounding errors. It is wrong if the error is larger than rounding errors can explain and the differences with two
    steps agree, and otherwise it cannot be checked. Nothing can be checked if the output is not finite. Also checked
    are the rules for every backward: see `core.gradcheck.rules`. A node that changes an array that it may only read
    raises ValueError.
    """
    checker = Checker(Setting.draw(graph, output, inputs, seed), seed)
    if checker.not_finite:
        return GradientReport(seed, (), (), (checker.not_finite,))
    return GradientReport(seed, tuple(checker.tensors()), tuple(checker.breaches()))


class _Found(NamedTuple):
    entry: int | None
    analytic: float
    numeric: float
    error: float
    rounding: float
    outcome: Outcome
    #: the largest difference between two accurate numeric derivatives; 0 for a derivative that is right
    slack: float = 0.0
    #: whether no two numeric derivatives agree
    unsettled: bool = False


_NOTHING = _Found(0, 0.0, 0.0, 0.0, 0.0, Outcome.RIGHT)


def _compare(
    entry: int | None, derivatives: tuple[float, float], own: float, scale: float, bound: Callable[[], float]
) -> _Found:
    """Compare an analytic and a numeric derivative, where `own` is the size of this derivative.

    `bound` returns a bound on the rounding error, and is called only if the two differ by more than the tolerance.
    """
    analytic, numeric = derivatives
    error = abs(analytic - numeric)
    size = max(scale, abs(numeric))
    if not isfinite(analytic):
        return _Found(entry, analytic, numeric, inf, 0.0, Outcome.WRONG, inf)
    if error <= TOLERANCE * own:
        return _Found(entry, analytic, numeric, error / size if error else 0.0, 0.0, Outcome.RIGHT)
    rounding = bound()
    outcome = Outcome.WRONG
    slack = TOLERANCE * own + rounding
    if error <= slack:
        outcome = Outcome.RIGHT if error <= TOLERANCE * scale else Outcome.UNCHECKED
    return _Found(entry, analytic, numeric, inf if isnan(error) else error / size, rounding / size, outcome, slack)


def _decide(compared: Iterator[tuple[float, list[_Found]]]) -> _Found | None:
    """Return the worst comparison with the step that is best; None if there is no step.

    `compared` yields steps, and with each the comparisons of the same derivatives. A derivative is wrong if it differs
    from two differences with neighbouring steps that agree: one difference alone can be inaccurate.
    """
    tried: dict[float, list[_Found]] = {}
    best: _Found | None = None
    for step, found in compared:
        # Finer steps only add rounding errors where those are too large already.
        if step in FINE_STEPS and best is not None and best.outcome is Outcome.UNCHECKED:
            return best
        worst = max(found, key=_badness)
        if worst.outcome is Outcome.RIGHT:
            return worst
        if step in FINE_STEPS and best is not None and worst.outcome is Outcome.UNCHECKED:
            break
        tried[step] = found
        best = worst if best is None else min(best, worst, key=_badness)
    if best is None or best.outcome is not Outcome.WRONG:
        return best
    neighbours = pairwise(tried[step] for step in sorted(tried))
    agreed = [pair for fine, coarse in neighbours if (pair := _worst_agreed(fine, coarse))]
    if agreed:
        # The most accurate one is shown.
        return min(agreed, key=lambda pair: abs(pair[0].numeric - pair[1].numeric))[0]
    return best._replace(outcome=Outcome.UNCHECKED, unsettled=True)


def _worst_agreed(fine: list[_Found], coarse: list[_Found]) -> tuple[_Found, _Found] | None:
    """Return the worst derivative that is wrong by both steps, where the differences agree."""
    agreed = [
        pair
        for pair in zip(fine, coarse, strict=True)
        if pair[0].outcome is pair[1].outcome is Outcome.WRONG
        and abs(pair[0].numeric - pair[1].numeric) <= pair[0].slack
    ]
    return max(agreed, key=lambda pair: _badness(pair[0]), default=None)


class Checker:
    """Compares the gradients of a setting with differences."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._setting, self._random = setting, generator(seed, Purpose.CHECK, stream=2)
        self._rules = Rules(setting)
        self._plan = self._rules.plan
        self._gradients = setting.gradients(self._plan)
        self._differences = Differences(setting)
        self._rounding = Rounding(setting, self._differences.values())
        self._shape = self._differences.origin.shape
        self._work = setting.work
        node = self._differences.not_finite()
        #: why nothing can be checked; "" if something can
        self.not_finite = f"the value of node {node!r} is not finite in the forward pass" if node else ""
        self._row_rounding: dict[int, float] = {}

    def breaches(self) -> list[str]:
        """Return the rules that the backward passes break."""
        return self._rules.breaches(self._random.standard_normal((2, *self._shape)))

    def tensors(self) -> list[TensorCheck]:
        """Compare every gradient, small ones entry by entry."""
        outputs = int(np.prod(self._shape))
        whole = [
            name
            for name, gradient in self._gradients.items()
            if gradient.size * outputs <= WHOLE_JACOBIAN and gradient.size * self._work <= WHOLE_WORK
        ]
        jacobians = self._jacobians(whole)
        return [
            self._check_entries(name, jacobians[name])
            if name in jacobians
            else self._check_directions(name, self._upstream_of(name), DIRECTIONS)
            for name in self._gradients
        ]

    def along_rows(self, directions: int) -> list[TensorCheck]:
        """Compare the gradients along directions within one row of an input at a time.

        A row whose gradient is small is then not measured by the scale of another.
        """
        found = []
        for name in self._setting.floats:
            rows = np.zeros(self._gradients[name].shape, bool)
            pair = self._upstream_of(name)
            for row in range(len(rows)):
                rows[...] = False
                rows[row] = True
                found.append(self._check_directions(name, pair, directions, rows.ravel()))
        return found

    def _backward(self, upstream: Array, names: Iterable[str]) -> dict[str, Array]:
        self._plan.backward({self._setting.output: upstream})
        return {name: self._gradients[name].copy() for name in names}

    def _jacobians(self, names: list[str]) -> dict[str, Array]:
        """Return d output / d name, each (output size, variable size), one backward per row."""
        rows: dict[str, list[Array]] = {name: [] for name in names}
        upstream = np.zeros(self._shape)
        for index in np.ndindex(self._shape) if names else ():
            upstream[index] = 1
            gradients = self._backward(upstream, names)
            upstream[index] = 0
            for name in names:
                rows[name].append(gradients[name].ravel())
        return {name: np.reshape(rows[name], (upstream.size, self._gradients[name].size)) for name in names}

    def _check_entries(self, name: str, jacobian: Array) -> TensorCheck:
        scale = float(np.abs(jacobian).max(initial=0))
        size = self._gradients[name].size
        reach = self._reach(name)
        looked_at = []
        for entry in range(size) if jacobian.size else ():
            found = _decide(self._compare_entry(name, entry, float(reach[entry]), jacobian[:, entry], scale))
            if found is not None:
                looked_at.append(found)
        total = size if jacobian.size else 0
        return self._result(name, looked_at, total - len(looked_at), total)

    def _compare_entry(
        self, name: str, entry: int, reach: float, column: Array, scale: float
    ) -> Iterator[tuple[float, list[_Found]]]:
        """Yield steps, and the comparisons of the derivatives of every output with respect to one entry."""
        for step, along in self._differences.derivatives(name, np.eye(1, self._gradients[name].size, entry) * reach):
            pairs = zip(column.tolist(), (along.ravel() / reach).tolist(), strict=True)
            yield (
                step,
                [
                    _compare(entry, pair, abs(pair[1]), scale, partial(self._row_bound, row, step * reach))
                    for row, pair in enumerate(pairs)
                ],
            )

    def _row_bound(self, row: int, step: float) -> float:
        """Return a bound on the rounding error of the derivative of one entry of the output."""
        if row not in self._row_rounding:
            self._row_rounding[row] = self._rounding.of(np.eye(1, prod(self._shape), row).reshape(self._shape))
        return self._row_rounding[row] / step

    def _upstream_of(self, name: str) -> tuple[Array, Array]:
        """Draw an upstream gradient, and return it with the gradient of a variable, flat."""
        upstream = self._random.standard_normal(self._shape)
        return upstream, self._backward(upstream, [name])[name].ravel()

    def _check_directions(
        self, name: str, pair: tuple[Array, Array], directions: int, where: Array | None = None
    ) -> TensorCheck:
        """Check a gradient, given with its upstream gradient, along random directions within the entries `where`."""
        directions = directions if self._work <= LARGE_WORK else 1
        reach = self._reach(name) if where is None else self._reach(name) * where
        looked_at: list[_Found] = []
        for _ in range(RESAMPLINGS):
            direction = self._random.uniform(0.5, 1, reach.size)
            direction *= self._random.choice([-1.0, 1.0], reach.size)
            direction *= reach
            found = self._compare_along(name, direction, *pair)
            if found is not None and found.outcome is Outcome.WRONG:
                looked_at = [self._narrow(name, direction, pair, found)] * directions
            elif found is not None:
                looked_at.append(found)
            if len(looked_at) == directions:
                break
        return self._result(name, looked_at, directions - len(looked_at), directions)

    def _compare_along(self, name: str, direction: Array, upstream: Array, gradient: Array) -> _Found | None:
        """Compare the derivative of `sum(upstream * output)`; None if kinks are too close for every step."""
        terms = gradient * direction
        scale = float(np.linalg.norm(terms))
        entries = np.flatnonzero(direction)
        entry = int(entries[0]) if len(entries) == 1 else None

        def compared() -> Iterator[tuple[float, list[_Found]]]:
            for step, derivative in self._differences.derivatives(name, direction):
                pair = float(terms.sum()), float(np.sum(upstream * derivative))
                bound = partial(self._bound, upstream * self._affected(name, direction, derivative), step)
                yield step, [_compare(entry, pair, scale, scale, bound)]

        return _decide(compared())

    def _affected(self, name: str, direction: Array, derivative: Array) -> Array:
        """Return where the output can change: in the rows that do, and in those of the direction.

        Other rows have no rounding error in the difference.
        """
        rows = derivative != 0
        if rows.ndim:
            rows = rows.reshape(len(rows), -1).any(axis=1)
            shape = self._gradients[name].shape
            if name in self._setting.floats and shape[:1] == rows.shape:
                rows |= direction.reshape(len(rows), -1).any(axis=1)
            rows = along_rows(rows, derivative)
        return rows if rows.any() else np.ones_like(rows)

    def _bound(self, upstream: Array, step: float) -> float:
        return self._rounding.of(upstream) / step

    def _narrow(self, name: str, direction: Array, pair: tuple[Array, Array], found: _Found) -> _Found:
        """Halve a direction that disagrees and continue with the half that disagrees more, down to one entry."""
        while np.count_nonzero(direction) > 1:
            halves = [np.zeros_like(direction) for _ in range(2)]
            for half, entries in zip(halves, np.array_split(np.flatnonzero(direction), 2), strict=True):
                half[entries] = direction[entries]
            compared = [(self._compare_along(name, half, *pair), half) for half in halves]
            known = [(half_found, half) for half_found, half in compared if half_found is not None]
            if not known:
                break
            narrower, half = max(known, key=lambda each: _badness(each[0]))
            if narrower.outcome is not Outcome.WRONG:
                break
            found, direction = narrower, half
        if found.entry is None:
            return found
        # The direction is longer than 1 where the variable is.
        size = float(direction[found.entry])
        return found._replace(analytic=found.analytic / size, numeric=found.numeric / size)

    def _reach(self, name: str) -> Array:
        """Return how far each entry is moved, in units of the step: further where it is large."""
        reach: Array = np.maximum(np.abs(self._differences.variables[name]).ravel(), 1)
        return reach

    def _result(self, name: str, looked_at: Iterable[_Found], skipped: int, total: int) -> TensorCheck:
        found = max(looked_at, key=_badness, default=_NOTHING)
        gradient, outcome = self._gradients[name], found.outcome
        if skipped == total and total:
            outcome = Outcome.UNCHECKED
        elif outcome is Outcome.UNCHECKED and not found.unsettled and vanishes(self._setting, name):
            outcome = Outcome.RIGHT
        index: tuple[int, ...] | None = None
        if found.entry is not None:
            index = tuple(int(i) for i in np.unravel_index(found.entry, gradient.shape)) if gradient.size else ()
        _, analytic, numeric, error, rounding, _, _, unsettled = found
        return TensorCheck(name, outcome, error, rounding, index, analytic, numeric, skipped, total, unsettled)


def _badness(found: _Found) -> tuple[Outcome, float]:
    return found.outcome, found.error
