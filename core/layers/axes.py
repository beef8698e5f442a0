"""Axes of an array other than the batch axis."""

from core.arrays import Shape
from core.graph.node import AxesError

#: axes of images and of sequences
IMAGE, SEQUENCE = ("height", "width", "channels"), ("length", "channels")


def check_axes(name: str, x: Shape, axes: tuple[str, ...]) -> None:
    """Raise AxesError, which begins with `name`, if an input does not have these axes behind that of the batch."""
    if len(x) != 1 + len(axes):
        raise AxesError(f"{name} needs an input of shape (batch, {', '.join(axes)}), not {x}", len(axes))


def axis_of(name: str, axis: int, dimensions: int) -> int:
    """Return a non-negative axis. Raises ValueError if it is axis 0, the batch axis, and AxesError if out of range."""
    if not -dimensions < axis < dimensions or axis == 0:
        message = (
            f"{name} needs an axis from 1 to {dimensions - 1}, or from the back -1 to {1 - dimensions}, not {axis}: "
            "axis 0 is the batch axis"
        )
        raise AxesError(message, abs(axis)) if axis else ValueError(message)
    return axis % dimensions
