"""Margins around images and sequences (batch, ..., channels)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from core.graph.node import AxesError
from core.layers.axes import IMAGE

if TYPE_CHECKING:
    from core.arrays import Shape

#: one number for all sides, one for each axis, or one before and one after each axis
Sides: TypeAlias = int | tuple[int, ...]
#: sizes before and after each axis
Margins: TypeAlias = tuple[tuple[int, int], ...]


def margins_of(where: str, sides: Sides, axes: int) -> Margins:
    """Return the margins of this many axes. Raises ValueError, which begins with `where`, for another number."""
    if isinstance(sides, int):
        return ((sides, sides),) * axes
    if len(sides) == axes:
        return tuple((each, each) for each in sides)
    if len(sides) == 2 * axes:
        return tuple(zip(sides[::2], sides[1::2], strict=True))
    raise ValueError(f"{where} must be one number, or a list of {axes} or {2 * axes}, not {sides}")


def check_shape(where: str, x: Shape) -> None:
    """Raise AxesError, which begins with `where`, for an input without axes between batch and channels."""
    if len(x) < 3:
        message = f"{where} needs an input of shape (batch, ..., channels) with three or more axes, not {x}"
        raise AxesError(message, len(IMAGE))


def within(margins: Margins) -> tuple[slice, ...]:
    """Return the index of an array without its margins, which are those of all axes but the first."""
    return (slice(None), *(slice(before, -after if after else None) for before, after in margins))
