"""The rules for every backward, whatever function it differentiates.

Two calls give the same bits, and so does a plan that has run on other inputs before, or that computes no gradients of
inputs. A zero upstream gradient gives zero. The gradients are linear in the upstream gradient: to rounding for a sum,
and to the bit for a power of two.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
        first, second, other = (self._backward(self.plan, each) for each in (one, one, two))
        combined, zero = self._backward(self.plan, 2 * one - 3 * two), self._backward(self.plan, np.zeros_like(one))
        # Over all gradients, since one that is zero except for rounding gives no scale for rounding errors.
        size = max((np.abs(gradient).max(initial=0) for gradient in (*first.values(), *other.values())), default=0)
        scaled = [(factor, self._backward(self.plan, factor * one)) for factor in FACTORS]
        self._fresh.forward(self._setting.key)
        fresh = self._backward(self._fresh, one)
        bare = self._setting.plan(())
        bare.forward(self._setting.key)
        parameters = self._backward(bare, one)
        found: list[str] = []
        for name, gradient in first.items():
            sums = np.abs(combined[name] - (2 * gradient - 3 * other[name])) <= 5e-12 * size
            rules = {
                "differs when backward is called twice": same(gradient, second[name]),
                "is not zero for a zero upstream gradient": not np.any(zero[name] != 0),
                "is not linear in the upstream gradient": bool(sums.all())
                and all(same(each[name], factor * gradient) for factor, each in scaled),
                "depends on the batch before": same(gradient, fresh[name]),
                "depends on whether others are wanted": same(gradient, parameters.get(name, gradient)),
            }
            found.extend(f"the gradient of {name} {words}" for words, holds in rules.items() if not holds)
        return found

    def _backward(self, plan: Plan, upstream: Array) -> dict[str, Array]:
        plan.backward({self._setting.output: upstream})
        return {name: gradient.copy() for name, gradient in self._setting.gradients(plan).items()}


def same(one: Array, other: Array) -> bool:
    """Return whether two arrays have the same bits, where all NaN are the same."""
    return np.array_equal(one, other, equal_nan=True)


def vanishes(setting: Setting, name: str) -> bool:
    """Return whether a gradient is zero but for rounding errors, which grow with the unit of the last place."""
    sizes = []
    for dtype in (np.float64, np.float32):
        plan = setting.plan(setting.floats, dtype)
        plan.forward(setting.key)
        plan.backward({setting.output: 1.0})
        sizes.append(float(np.abs(setting.gradients(plan)[name]).max(initial=0)))
    return sizes[0] <= VANISHING * sizes[1]
