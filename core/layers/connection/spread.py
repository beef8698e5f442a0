"""The numbers that a layer learns for its input: one for each element of a sample, for each feature, or one for all."""

from typing import Literal

from core.arrays import Array, Namespace, Shape

Spread = Literal["element", "feature", "layer"]


def learnt_shape(per: Spread, shape: Shape) -> Shape:
    """Return the shape of the numbers for an input (batch, ..., features)."""
    return {"element": shape[1:], "feature": shape[-1:], "layer": (1,)}[per]


def sum_over_copies(xp: Namespace, per: Spread, values: Array, out: Array) -> None:
    """Write the sums of `values`, of the input's shape, over the places that use the same number into `out`."""
    if per == "layer":
        xp.sum(values, out=out.reshape(()))
    else:
        xp.sum(values, axis=0 if per == "element" else tuple(range(values.ndim - 1)), out=out)
