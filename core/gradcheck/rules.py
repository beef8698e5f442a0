"""The rules for every backward, whatever function it differentiates.

Two calls give the same bits, and so does a plan that has run on other inputs before, or that computes no gradients of
inputs. A zero upstream gradient gives zero. The gradients are linear in the upstream gradient: to rounding for a sum,
and to the bit for a power of two.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.arrays import Array
    from core.gradcheck.setting import Setting
    from core.plan.plan import Plan

#: upstream gradients are scaled by these, about 1e10 and 1e-10
FACTORS = (2.0**33, 2.0**-33)
# A gradient that is this much smaller in float64 than in float32 is rounding error: its digits differ by 2**-29.
VANISHING = 2.0**-20


class Rules:
    """Checks the rules in a setting. `plan` has run forward, after a run on other inputs."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        # Before the nodes have run, so that nothing that they might store is in the copy.
        self._fresh = setting.plan(setting.floats, graph=deepcopy(setting.graph))
        self.plan = setting.plan(setting.floats)
        self._run_on_other_inputs()
        setting.feed(self.plan, setting.inputs)
        self.plan.forward(setting.key)

    def _run_on_other_inputs(self) -> None:
        others = {
            name: values[::-1] if values.ndim and values.dtype.kind == "i" else values / 2
            for name, values in self._setting.inputs.items()
        }
        self._setting.feed(self.plan, others)
        self.plan.forward(self._setting.key)
        self.plan.backward({self._setting.output: 1.0})

    def breaches(self, upstreams: Array) -> list[str]:
        """Return the rules that are broken, for two upstream gradients."""
        one, two = upstreams
        first = self._copied(one)
        broken: dict[tuple[str, str], None] = {}

        def demand(words: str, holds: Callable[[str, Array], bool], plan: Plan, upstream: Array) -> None:
            """Run backward, and note the gradients for which a rule does not hold."""
            for name, gradient in self._backward(plan, upstream).items():
                if not holds(name, gradient):
                    broken[name, words] = None

        def as_first(name: str, gradient: Array) -> bool:
            return same(gradient, first[name])

        demand("differs when backward is called twice", as_first, self.plan, one)
        other = self._copied(two)
        # Over all gradients, since one that is zero except for rounding gives no scale for rounding errors.
        size = max((np.abs(gradient).max(initial=0) for gradient in (*first.values(), *other.values())), default=0)

        def summed(name: str, gradient: Array) -> bool:
            return bool((np.abs(gradient - (2 * first[name] - 3 * other[name])) <= 5e-12 * size).all())

        demand("is not zero for a zero upstream gradient", _is_zero, self.plan, np.zeros_like(one))
        demand("is not linear in the upstream gradient", summed, self.plan, 2 * one - 3 * two)
        for factor in FACTORS:
            scaled = partial(_is_multiple, factor, first)
            demand("is not linear in the upstream gradient", scaled, self.plan, factor * one)
        self._fresh.forward(self._setting.key)
        demand("depends on the batch before", as_first, self._fresh, one)
        bare = self._setting.plan(())
        bare.forward(self._setting.key)
        demand("depends on whether others are wanted", as_first, bare, one)
        return [f"the gradient of {name} {words}" for name in first for of, words in broken if of == name]

    def _copied(self, upstream: Array) -> dict[str, Array]:
        return {name: gradient.copy() for name, gradient in self._backward(self.plan, upstream).items()}

    def _backward(self, plan: Plan, upstream: Array) -> dict[str, Array]:
        """Return the gradients, in buffers that the next backward overwrites."""
        plan.backward({self._setting.output: upstream})
        return self._setting.gradients(plan)


def _is_zero(_: str, gradient: Array) -> bool:
    return not np.any(gradient)


def _is_multiple(factor: float, first: Mapping[str, Array], name: str, gradient: Array) -> bool:
    return same(gradient, factor * first[name])


def same(one: Array, other: Array) -> bool:
    """Return whether two arrays have the same bits, where all NaN are the same."""
    # The second comparison takes several times as long.
    return np.array_equal(one, other) or np.array_equal(one, other, equal_nan=True)


def vanishes(setting: Setting, name: str) -> bool:
    """Return whether a gradient is zero but for rounding errors, which grow with the unit of the last place."""
    sizes = []
    for dtype in (np.float64, np.float32):
        plan = setting.plan(setting.floats, dtype)
        plan.forward(setting.key)
        plan.backward({setting.output: 1.0})
        sizes.append(float(np.abs(setting.gradients(plan)[name]).max(initial=0)))
    return sizes[0] <= VANISHING * sizes[1]
