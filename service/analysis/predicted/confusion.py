"""The confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.metrics.labels.counts import confusion
from service.analysis.style import label_axes, panels, plain, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from service.analysis.predictions import Predictions

MOST_CLASSES = 200
MOST_WITH_SHARES, MOST_WITH_COUNTS, MOST_WITH_NAMES = 12, 25, 50
PAIRS = 5
LONGEST_NAME, CHARACTER = 14, 0.1  # characters of a class name, and inches per character


def most_confused(matrix: NDArray[np.int64], pairs: int) -> list[tuple[int, int, int]]:
    """Return the largest non-zero entries off the diagonal: (true class, predicted class, count)."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:pairs]
    places = (np.unravel_index(position, wrong.shape) for position in order)
    return [(int(row), int(column), int(wrong[row, column])) for row, column in places if wrong[row, column]]


def draw_confusion_matrix(name: str, found: Predictions) -> Figure | None:
    """Draw the counts, coloured by their share of the rows of the true class; None if there are too many classes."""
    classes = len(found.names)
    if classes > MOST_CLASSES:
        return None
    matrix = confusion(found.scores, found.truth)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    size = float(np.clip(0.62 * classes, 3.6, 7))
    names = [shortened(text, LONGEST_NAME) for text in found.names]
    longest = max(map(len, names)) if classes <= MOST_WITH_NAMES else 0
    title = f"{name}: confusion matrix ({found.in_words})"
    space = max(0, longest - 3) * CHARACTER
    figure, (axes, words) = panels(title, (size, 3.0), size, names=(space, space))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    label_axes(axes, "rows, and their share of the true class", "predicted class", "true class")
    names = list(map(plain, names))
    if longest:
        axes.set_xticks(range(classes), names, rotation=90 if longest > 3 else 0, fontsize=9)
        axes.set_yticks(range(classes), names, fontsize=9)
    _write_cells(axes, matrix, shares)

    words.set_axis_off()
    right = int(np.trace(matrix))
    lines = [f"correct: {right:,} of {len(found.truth):,}, {right / len(found.truth):.2%}"]
    lines += ["", "most confused, true → predicted:"]
    lines += [
        f"  {count:,} × {names[row]} → {names[column]}" for row, column, count in most_confused(matrix, PAIRS)
    ] or ["  none"]
    words.text(-0.12, 1, "\n".join(lines), verticalalignment="top", fontsize=10, linespacing=1.5)
    return figure


def _write_cells(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    classes = len(matrix)
    if classes > MOST_WITH_COUNTS:
        return
    for row, column in np.argwhere(matrix):
        count, share = matrix[row, column], shares[row, column]
        text = f"{count:,}\n{share:.0%}" if classes <= MOST_WITH_SHARES else f"{count:,}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black", fontsize=8)
