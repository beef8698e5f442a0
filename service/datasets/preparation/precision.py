"""The precision of numbers that are stored in 32 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Share of a column's standard deviation beyond which the step between neighbouring 32-bit numbers is worth a warning.
# Targets of 1e6 + N(0, 1) are rounded to multiples of 0.06, which changes the error of a good model by 1%.
COARSE = 1e-3


def steps(statistics: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the largest step between neighbouring 32-bit numbers within the range of each column."""
    largest = np.maximum(np.abs(statistics["min"]), np.abs(statistics["max"])).astype(np.float32)
    # Towards zero, since there is no number above the largest one.
    found: NDArray[np.float64] = largest.astype(np.float64) - np.nextafter(largest, np.float32(0))
    return found


def coarse(statistics: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which columns are stored in steps that are large beside their standard deviation; not constant ones."""
    deviation = np.asarray(statistics["std"])
    found: NDArray[np.bool_] = (steps(statistics) > COARSE * deviation) & (deviation > 0)
    return found


def in_words(statistics: Mapping[str, Any], index: int) -> str:
    """Return what is coarse about a column, for a message."""
    step, deviation = float(steps(statistics)[index]), statistics["std"][index]
    return (
        f"numbers near {statistics['max'][index]:.6g} are stored in steps of {step:.2g}, {step / deviation:.1%} of the "
        f"standard deviation {deviation:.3g}"
    )
