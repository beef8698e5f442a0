"""The gradient check of one node of a graph by itself, where no other node hides its errors.

In a graph, a node gets the inputs and upstream gradients that the other nodes leave it. By itself it gets batches of
several sizes, so that each of its code paths runs, with every label and index, and inputs from near 0 to far out.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from core.gradcheck.check import Checker
from core.gradcheck.evaluation import evaluation_problems
from core.gradcheck.kinks import kink_problems
from core.gradcheck.precision import precision_problems
from core.gradcheck.report import GradientReport, Outcome, TensorCheck
from core.gradcheck.setting import Setting
from core.graph.graph import Graph
from core.random import Purpose, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Array, Shape
    from core.graph.node import Node

BATCHES = (1, 2, 5, 17, 130)
#: up to here, batches for which a node declares other buffers are checked as well
LARGEST_BATCH = 1024
#: most entries of an input in a batch; where all labels or indices need more, some are left out and this is reported
LARGEST = 2**22
MAGNITUDES = (0.02, 0.4, 2.0, 5.0, 10.0, 16.0, 30.0, 100.0, 1e3, 1e5)


@dataclass(frozen=True)
class Alone:
    """A node, and the names, shapes and kinds of its inputs in the graph, by batch size."""

    name: str
    node: Node
    reads: tuple[str, ...]
    graph: Graph

    def shapes(self, batch: int) -> list[Shape]:
        """Return the shapes of the inputs for a batch size."""
        every = self.graph.shapes(batch)
        return [every[value] for value in self.reads]

    def by_itself(self, batch: int) -> Graph:
        """Return a graph of a copy of the node, so that a node that stores something starts anew."""
        graph = Graph()
        for value, shape in dict(zip(self.reads, self.shapes(batch), strict=True)).items():
            declared = self.graph.inputs.get(value)
            graph.input(value, shape, integer=declared is not None and declared.integer)
        graph.add(self.name, deepcopy(self.node), *self.reads)
        return graph

    def limits(self, batch: int) -> dict[str, int]:
        """Return the inputs that hold indices, and their numbers of indices."""
        limits = self.node.index_limits(*self.shapes(batch))
        return {self.reads[position]: limit for position, limit in limits.items()}

    def batches(self) -> list[int]:
        """Return batch sizes that take every code path: also those where the node declares other buffers."""
        sizes = set(BATCHES)
        paths, power = set(self.node.workspace(*self.shapes(1))), 2
        while power <= LARGEST_BATCH and self._fits(power):
            if paths != (paths := set(self.node.workspace(*self.shapes(power)))):
                sizes.add(power)
            power *= 2
        for value, limit in self.limits(1).items():
            shape = dict(zip(self.reads, self.shapes(1), strict=True))[value]
            # Two occurrences of each index.
            sizes.add(-(-2 * limit // max(prod(shape), 1)))
        return sorted(size for size in sizes if size == 1 or self._fits(size))

    def left_out(self) -> Iterator[str]:
        """Yield what no batch holds."""
        largest = max(self.batches())
        for value, shape in zip(self.reads, self.shapes(largest), strict=True):
            limit = self.limits(largest).get(value, 0)
            if prod(shape) < limit:
                yield f"{self.name} by itself: {limit - prod(shape):,} of {limit:,} indices of {value} were not drawn"

    def _fits(self, batch: int) -> bool:
        return max(map(prod, [*self.shapes(batch), self.node.infer(*self.shapes(batch))])) <= LARGEST

    def draw(self, batch: int, random: np.random.Generator, magnitudes: Array | None = None) -> dict[str, Array]:
        """Draw inputs: every index, and normally distributed numbers, or numbers of a magnitude for each row."""
        drawn, limits = {}, self.limits(batch)
        for value, shape in dict(zip(self.reads, self.shapes(batch), strict=True)).items():
            declared = self.graph.inputs.get(value)
            if value in limits:
                indices = random.permutation(np.arange(prod(shape)) % limits[value]).reshape(shape)
                # A number is rounded down to an index, so half an index above it no stencil reaches the next one.
                drawn[value] = indices if declared is not None and declared.integer else indices + 0.5
            elif magnitudes is None:
                drawn[value] = random.standard_normal(shape)
            else:
                sizes = magnitudes.reshape(-1, *[1] * (len(shape) - 1))
                drawn[value] = sizes * random.uniform(0.8, 1.25, shape)
        return drawn


def check_alone(alone: Alone, seed: int) -> GradientReport:
    """Return gradients of the node by itself that are not right, breaches of rules, and what was left unchecked."""
    random = generator(seed, Purpose.CHECK, stream=3)
    tensors: dict[str, TensorCheck] = {}
    problems: dict[str, None] = {}
    unchecked = list(alone.left_out())

    def report() -> GradientReport:
        breaches = tuple(f"{alone.name} by itself: {words}" for words in problems)
        return GradientReport(seed, tuple(tensors.values()), breaches, tuple(unchecked))

    def note(found: list[TensorCheck], where: str) -> None:
        for each in found:
            name = f"{alone.name} by itself, {where}: {each.name}"
            worst = tensors.get(each.name)
            if not each.ok and (worst is None or worst.outcome < each.outcome):
                tensors[each.name] = replace(each, name=name)

    try:
        for batch in alone.batches():
            setting = Setting.draw(alone.by_itself(batch), alone.name, _inside(alone, batch, random), seed)
            checker = Checker(setting, seed)
            if checker.not_finite:
                unchecked.append(f"{alone.name} by itself, {batch} rows: {checker.not_finite}")
                return report()
            note(checker.tensors(), f"{batch} rows")
            differing, too_large = precision_problems(setting, random)
            problems |= dict.fromkeys([*checker.breaches(), *differing])
            unchecked += [f"{alone.name} by itself, {batch} rows: {words}" for words in too_large]
            if any(each.outcome is Outcome.WRONG for each in tensors.values()):
                break
        problems |= dict.fromkeys(evaluation_problems(alone.node, setting))
        far = Setting.draw(alone.by_itself(_FAR.size), alone.name, _far(alone, random), seed)
        # Where a function saturates, its derivative is smaller than rounding errors: it can be wrong, but not right.
        note([each for each in Checker(far, seed).along_rows(2) if each.outcome is Outcome.WRONG], "far out")
        wrong, too_large = kink_problems(alone.by_itself(7), alone.name, random)
        problems |= dict.fromkeys(wrong)
        unchecked += [f"{alone.name} by itself: {words}" for words in too_large]
    except ValueError as error:
        problems[f"raises ValueError: {error}"] = None
    return report()


#: one row of each magnitude and sign
_FAR = np.array([sign * size for size in MAGNITUDES for sign in (1, -1)])


def _inside(alone: Alone, batch: int, random: np.random.Generator) -> dict[str, Array]:
    """Draw numbers for which the node has a value: positive ones where it has none for others."""
    inputs = alone.draw(batch, random)
    if np.isfinite(_value(alone, batch, inputs)).all():
        return inputs
    return {name: np.abs(values) + 0.25 if values.dtype.kind == "f" else values for name, values in inputs.items()}


def _far(alone: Alone, random: np.random.Generator) -> dict[str, Array]:
    """Draw rows of each magnitude and sign; rows for which the node has no value are drawn as for `_inside`."""
    batch = _FAR.size
    inputs, near = alone.draw(batch, random, _FAR), _inside(alone, batch, random)
    value = _value(alone, batch, inputs)
    rows = ~np.isfinite(value).reshape(batch, -1).all(axis=1) if value.shape[:1] == (batch,) else np.ones(batch, bool)
    for name, values in inputs.items():
        if values.dtype.kind == "f" and len(values) == batch:
            values[rows] = near[name][rows]
    return inputs


def _value(alone: Alone, batch: int, inputs: dict[str, Array]) -> Array:
    setting = Setting.draw(alone.by_itself(batch), alone.name, inputs, 0)
    plan = setting.plan(())
    plan.forward(setting.key)
    return plan.value(alone.name)
