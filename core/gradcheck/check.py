"""The gradient check: compares backward with differences of forward, in float64, to about nine digits."""

from __future__ import annotations

from math import inf, isnan, prod, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from core.gradcheck.differences import Differences
from core.gradcheck.report import TOLERANCE, GradientReport, TensorCheck
from core.graph.graph import BATCH, Graph
from core.plan.layout import ParameterLayout
from core.plan.plan import Plan
from core.plan.program import Program
from core.random import Purpose, RandomKey, generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from core.arrays import Array

#: most entries of a Jacobian that is checked entry by entry; a larger one is checked along random directions
WHOLE_JACOBIAN = 4_096
DIRECTIONS = 4
RESAMPLINGS = 20


def check_graph(graph: Graph, output: str, inputs: Mapping[str, npt.ArrayLike], seed: int = 0) -> GradientReport:
    """Check the gradients of a node's value with respect to every float input and every parameter.

    Nodes are in training mode, with random numbers that depend on `seed`. Parameters are drawn by `seed` from a normal
    distribution, of variance 1 / inputs for weights and 1 for biases, and so are upstream gradients; `inputs` are as
    given. Derivatives are five-point central differences. If a stencil crosses a kink, a smaller step is tried, then
    another direction where there is a choice; otherwise the entry is skipped and counted. Also checked: a second
    backward gives the same bits, a zero upstream gradient gives zero, and backward is linear. A node that changes an
    array that it may only read raises ValueError.
    """
    return _Checker(graph, output, inputs, seed).report()


class _Found(NamedTuple):
    entry: int | None
    analytic: float
    numeric: float
    error: float
    rounding: float

    @property
    def excess(self) -> float:
        """The part of the error that rounding does not explain."""
        return self.error - self.rounding


_NOTHING = _Found(0, 0.0, 0.0, 0.0, 0.0)


def _compare(entry: int | None, analytic: float, numeric: float, scale: float, rounding: float) -> _Found:
    """Return the error relative to the tensor's scale, or to the numeric value if that is larger."""
    if analytic == numeric:
        return _Found(entry, analytic, numeric, 0.0, 0.0)
    size = max(scale, abs(numeric))
    error = abs(analytic - numeric) / size
    return _Found(entry, analytic, numeric, inf if isnan(error) else error, rounding / size)


def _batch(graph: Graph, inputs: Mapping[str, npt.ArrayLike]) -> int:
    """Return the batch size of the given inputs, 1 where none has a batch dimension."""
    for name, declared in graph.inputs.items():
        if BATCH in declared.shape:
            return int(np.shape(inputs[name])[declared.shape.index(BATCH)])
    return 1


class _Checker:
    def __init__(self, graph: Graph, output: str, inputs: Mapping[str, npt.ArrayLike], seed: int) -> None:
        self.output, self.seed = output, seed
        self.random = generator(seed, Purpose.CHECK)
        layout = ParameterLayout(graph.parameters())
        parameters = np.zeros(layout.size)
        # Running averages are not learnt, and forward in training does not depend on them.
        learnt = [name for name, declaration in layout.declarations.items() if not declaration.statistic]
        for name in learnt:
            view = layout.views(parameters)[name]
            view[...] = self.random.standard_normal(view.shape) / sqrt(prod(view.shape[:-1]))
        batch = _batch(graph, inputs)
        floats = [name for name, declared in graph.inputs.items() if not declared.integer]
        program = Program.compile(graph, (output,), batch=batch, dtype=np.float64, wrt=floats)
        self.plan = Plan(program, layout=layout, parameters=parameters)
        for name, values in inputs.items():
            self.plan.inputs[name][...] = values
        key = RandomKey(seed)
        self.plan.forward(key)
        self.shape = self.plan.value(output).shape
        slots = layout.views(self.plan.gradients)
        self.gradients = {name: self.plan.gradient(name) for name in floats} | {name: slots[name] for name in learnt}
        self.differences = Differences(graph, output, inputs, batch, layout, parameters, key)

    def report(self) -> GradientReport:
        breaches = tuple(self._breaches())
        outputs = int(np.prod(self.shape))
        whole = [name for name, gradient in self.gradients.items() if gradient.size * outputs <= WHOLE_JACOBIAN]
        jacobians = self._jacobians(whole)
        tensors = tuple(
            self._check_entries(name, jacobians[name]) if name in jacobians else self._check_directions(name)
            for name in self.gradients
        )
        return GradientReport(self.seed, tensors, breaches)

    def _backward(self, upstream: Array) -> dict[str, Array]:
        self.plan.backward({self.output: upstream})
        return {name: gradient.copy() for name, gradient in self.gradients.items()}

    def _breaches(self) -> list[str]:
        one, two = self.random.standard_normal((2, *self.shape))
        first, second, other = self._backward(one), self._backward(one), self._backward(two)
        combined, zero = self._backward(2 * one - 3 * two), self._backward(np.zeros_like(one))
        found = []
        # Over all gradients, since one that is zero except for rounding gives no scale for rounding errors.
        size = max((np.abs(gradient).max(initial=0) for gradient in (*first.values(), *other.values())), default=0)
        for name in self.gradients:
            if not np.array_equal(first[name], second[name], equal_nan=True):
                found.append(f"the gradient of {name} differs when backward is called twice")
            if np.any(zero[name] != 0):
                found.append(f"the gradient of {name} is not zero for a zero upstream gradient")
            if not np.all(np.abs(combined[name] - (2 * first[name] - 3 * other[name])) <= 5e-12 * size):
                found.append(f"the gradient of {name} is not linear in the upstream gradient")
        return found

    def _jacobians(self, names: list[str]) -> dict[str, Array]:
        """Return d output / d name, each (output size, variable size), one backward per row."""
        rows: dict[str, list[Array]] = {name: [] for name in names}
        upstream = np.zeros(self.shape)
        for index in np.ndindex(self.shape) if names else ():
            upstream[index] = 1
            gradients = self._backward(upstream)
            upstream[index] = 0
            for name in names:
                rows[name].append(gradients[name].ravel())
        return {name: np.reshape(rows[name], (upstream.size, self.gradients[name].size)) for name in names}

    def _check_entries(self, name: str, jacobian: Array) -> TensorCheck:
        scale = np.abs(jacobian).max(initial=0)
        size = self.gradients[name].size
        looked_at = []
        for entry in range(size) if jacobian.size else ():
            candidates = []
            for derivative, rounding in self.differences.derivatives(name, np.eye(1, size, entry)):
                rows = zip(jacobian[:, entry].tolist(), derivative.ravel().tolist(), strict=True)
                candidates.append(max((_compare(entry, *row, scale, rounding) for row in rows), key=_badness))
                if candidates[-1].excess <= TOLERANCE:
                    break
            if candidates:
                looked_at.append(min(candidates, key=_badness))
        total = size if jacobian.size else 0
        return self._result(name, max(looked_at, key=_badness, default=_NOTHING), total - len(looked_at), total)

    def _check_directions(self, name: str) -> TensorCheck:
        upstream = self.random.standard_normal(self.shape)
        gradient = self._backward(upstream)[name]
        looked_at: list[_Found] = []
        for _ in range(RESAMPLINGS):
            direction = self.random.choice([-1.0, 1.0], gradient.size)
            found = self._compare_along(name, direction, upstream, gradient)
            if found is not None and found.excess > TOLERANCE:
                return self._result(name, self._narrow(name, direction, upstream, gradient, found), 0, DIRECTIONS)
            if found is not None:
                looked_at.append(found)
            if len(looked_at) == DIRECTIONS:
                break
        worst = max(looked_at, key=_badness, default=_NOTHING)
        return self._result(name, worst, DIRECTIONS - len(looked_at), DIRECTIONS)

    def _compare_along(self, name: str, direction: Array, upstream: Array, gradient: Array) -> _Found | None:
        """Compare the derivative of `sum(upstream * output)`; None if kinks are too close for every step."""
        analytic, scale = float(gradient.ravel() @ direction), float(np.linalg.norm(gradient))
        candidates = []
        # Rounding errors of many entries add up like a random walk.
        weight, entries = float(np.linalg.norm(upstream)), np.flatnonzero(direction)
        entry = int(entries[0]) if len(entries) == 1 else None
        for derivative, rounding in self.differences.derivatives(name, direction):
            numeric = float(np.sum(upstream * derivative))
            candidates.append(_compare(entry, analytic, numeric, scale, weight * rounding))
            if candidates[-1].excess <= TOLERANCE:
                break
        return min(candidates, key=_badness, default=None)

    def _narrow(self, name: str, direction: Array, upstream: Array, gradient: Array, found: _Found) -> _Found:
        """Halve a direction that disagrees and continue with the half that disagrees more, down to one entry."""
        while np.count_nonzero(direction) > 1:
            first, second = np.array_split(np.flatnonzero(direction), 2)
            halves = [np.where(np.isin(np.arange(direction.size), half), direction, 0) for half in (first, second)]
            compared = [(self._compare_along(name, half, upstream, gradient), half) for half in halves]
            known = [(half_found, half) for half_found, half in compared if half_found is not None]
            if not known:
                break
            found, direction = max(known, key=lambda pair: _badness(pair[0]))
        return found

    def _result(self, name: str, found: _Found, skipped: int, total: int) -> TensorCheck:
        gradient = self.gradients[name]
        index: tuple[int, ...] | None = None
        if found.entry is not None:
            index = tuple(int(i) for i in np.unravel_index(found.entry, gradient.shape)) if gradient.size else ()
        return TensorCheck(name, found.error, found.rounding, index, found.analytic, found.numeric, skipped, total)


def _badness(found: _Found) -> tuple[float, float]:
    return max(found.excess, 0.0), found.error
