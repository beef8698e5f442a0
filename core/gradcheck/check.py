"""The gradient check: backward against differences of forward, in float64, to about nine digits."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, prod, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from core.gradcheck.differences import Differences
from core.graph.graph import BATCH, Graph
from core.plan.layout import ParameterLayout
from core.plan.plan import Plan
from core.plan.program import Program
from core.random import Purpose, RandomKey, generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from core.arrays import Array

#: relative to the largest entry of a tensor's Jacobian, or to the norm of its gradient; there is no absolute slack
TOLERANCE = 1e-9
#: entries of a Jacobian that are looked at one by one; of a larger one, random directions are
WHOLE_JACOBIAN = 4_096
DIRECTIONS = 4
RESAMPLINGS = 20


@dataclass(frozen=True)
class TensorCheck:
    """The worst disagreement within the gradient of one input or parameter.

    `error` is relative, and `rounding` the part of it that differences of rounded values may explain, which matters
    where a gradient is tiny. `index` is the entry where it was found, with its `analytic` and `numeric` derivative; it
    is None for the derivative along a whole direction, where directions were looked at and none disagreed. `skipped`
    counts the entries or directions too near to a kink to be looked at, of `total`.
    """

    name: str
    error: float
    rounding: float
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    skipped: int
    total: int

    @property
    def ok(self) -> bool:
        """Whether the gradient is right, and some of it could be looked at."""
        return self.error - self.rounding <= TOLERANCE and (self.skipped < self.total or self.total == 0)

    def __str__(self) -> str:
        verdict = "right" if self.ok else "WRONG"
        place = "along a direction" if self.index is None else f"at {list(self.index)}"
        return (
            f"{self.name}: {verdict}, relative error {self.error:.2g} {place}, where backward says "
            f"{self.analytic:.12g} and differences say {self.numeric:.12g} ({self.skipped} of {self.total} skipped)"
        )


@dataclass(frozen=True)
class GradientReport:
    """What `check_graph` found: each tensor, and breaches of the rules that every backward keeps."""

    seed: int
    tensors: tuple[TensorCheck, ...]
    breaches: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every gradient is right and every rule kept."""
        return not self.breaches and all(tensor.ok for tensor in self.tensors)

    def assert_ok(self) -> None:
        """Raise AssertionError that tells everything, unless `ok`."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return "\n".join([f"gradient check with seed {self.seed}", *map(str, self.tensors), *self.breaches])


def check_graph(graph: Graph, output: str, inputs: Mapping[str, npt.ArrayLike], seed: int = 0) -> GradientReport:
    """Check the gradients of a node's value with respect to every float input and every parameter.

    Nodes are in training mode, with random numbers that depend on `seed`. Parameters are drawn by `seed` from a normal
    distribution, of variance 1 / inputs for weights and 1 for biases, and so are upstream gradients; `inputs` are as
    given. Derivatives are five-point central differences. A stencil across a kink is tried again with a smaller step,
    then along another direction where there is a choice, and else skipped and counted. Also checked: a second backward
    gives the same bits, a zero upstream gives zero, and backward is linear. That it changes nothing which it only
    reads, the plan itself sees to: a node that tries raises ValueError.
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
    """Measure an error by the tensor's own scale, or by the numeric value where backward says too little."""
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
        # Running averages are no part of what is differentiated in training, and are not learnt.
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
        # Of all gradients: one that is zero but for rounding is no measure of rounding.
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
        """Compare the derivative of `sum(upstream * output)`; None where kinks are too near for every step."""
        analytic, scale = float(gradient.ravel() @ direction), float(np.linalg.norm(gradient))
        candidates = []
        # Errors of many entries add up as a random walk does.
        weight, entries = float(np.linalg.norm(upstream)), np.flatnonzero(direction)
        entry = int(entries[0]) if len(entries) == 1 else None
        for derivative, rounding in self.differences.derivatives(name, direction):
            numeric = float(np.sum(upstream * derivative))
            candidates.append(_compare(entry, analytic, numeric, scale, weight * rounding))
            if candidates[-1].excess <= TOLERANCE:
                break
        return min(candidates, key=_badness, default=None)

    def _narrow(self, name: str, direction: Array, upstream: Array, gradient: Array, found: _Found) -> _Found:
        """Halve a direction that disagrees, going on with the half that disagrees more, down to one entry."""
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
