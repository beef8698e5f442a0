"""Axes of an array other than the first, which counts samples."""


def axis_of(name: str, axis: int, dimensions: int) -> int:
    """Return an axis counted from the front. ValueError where there is no such axis, or it is that of the samples."""
    if not -dimensions < axis < dimensions or axis == 0:
        raise ValueError(
            f"{name} needs an axis from 1 to {dimensions - 1}, or from the back -1 to {1 - dimensions}, not {axis}: "
            "axis 0 counts samples"
        )
    return axis % dimensions
