"""Axes of an array other than the batch axis."""


def axis_of(name: str, axis: int, dimensions: int) -> int:
    """Return a non-negative axis. Raises ValueError if it is out of range, or axis 0, the batch axis."""
    if not -dimensions < axis < dimensions or axis == 0:
        raise ValueError(
            f"{name} needs an axis from 1 to {dimensions - 1}, or from the back -1 to {1 - dimensions}, not {axis}: "
            "axis 0 is the batch axis"
        )
    return axis % dimensions
