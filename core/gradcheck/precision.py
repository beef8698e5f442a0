"""The float32 form of a node against its float64 form."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from core.arrays import Array
    from core.gradcheck.setting import Setting

#: of the largest value, or of the largest gradient: about a hundred units of the last place of float32
TOLERANCE_32 = 1e-5


# A thousandth of the largest number: a derivative can be too large, and its product with an upstream gradient not be.
LARGEST_32 = float(np.finfo(np.float32).max) * 1e-3
#: why nothing is compared
TOO_LARGE = "values or gradients are too large for float32"


def precision_problems(setting: Setting, random: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return the values and gradients that differ between float32 and float64, from the same numbers.

    Also return what cannot be checked: nothing is compared where numbers are near the largest of float32 or beyond.
    """
    rounded = replace(
        setting,
        parameters=setting.parameters.astype(np.float32).astype(np.float64),
        inputs={
            name: values.astype(np.float32) if values.dtype.kind == "f" else values
            for name, values in setting.inputs.items()
        },
    )
    exact, upstream = _run(rounded, np.float64, None, random)
    if any(np.abs(array).max(initial=0) > LARGEST_32 for array in exact.values()):
        return [], [TOO_LARGE]
    single, _ = _run(rounded, np.float32, upstream, random)
    largest = max((float(np.abs(each).max(initial=0)) for each in list(exact.values())[1:]), default=0.0)
    found = []
    for name, array in exact.items():
        scale = float(np.abs(array).max(initial=0)) if name == _VALUE else largest
        error = float(np.abs(single[name] - array).max(initial=0))
        if not error <= TOLERANCE_32 * scale:
            found.append(f"{name} differs by {error:.2g} between float32 and float64")
    return found, []


_VALUE = "the value"


def _run(
    setting: Setting, dtype: type[np.floating], upstream: Array | None, random: np.random.Generator
) -> tuple[dict[str, Array], Array]:
    plan = setting.plan(setting.floats, dtype)
    plan.forward(setting.key)
    value = plan.value(setting.output).astype(np.float64)
    if upstream is None:
        upstream = random.standard_normal(value.shape).astype(np.float32)
    plan.backward({setting.output: upstream})
    gradients = {
        f"the gradient of {name}": gradient.astype(np.float64) for name, gradient in setting.gradients(plan).items()
    }
    return {_VALUE: value} | gradients, upstream
