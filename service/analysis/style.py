"""The common style of all figures."""

from __future__ import annotations

import io
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from service.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

# The colour-blind safe palette of Okabe and Ito.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
DPI = 100
SMALLEST_DIFFERENCE = 1e-3  # of the numbers of an axis, relative to the numbers
CHARACTERS_PER_INCH = 8  # in a title


def panels(
    title: str,
    widths: Sequence[float],
    height: float,
    names: tuple[float, float] = (0, 0),
    rows: int = 1,
    above: float = 0.95,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a title, and axes side by side, in one or more rows. Widths and height are in inches.

    `names` is the space in inches for tick labels to the left of the first axes, and below the last row; `above` is
    that between rows. All positions are fixed, since automatic layout takes more than half of the drawing time.
    """
    first, between, right, bottom = 0.85 + names[0], 0.95, 0.25, 0.55 + names[1]
    width = first + sum(widths) + between * (len(widths) - 1) + right
    lines = wrap(visible(title), int(width * CHARACTERS_PER_INCH))
    whole = width, bottom + rows * height + (rows - 1) * above + 0.55 + 0.2 * len(lines)
    figure = Figure(figsize=whole, dpi=DPI)
    text = "\n".join(map(plain, lines))
    figure.text(0.12 / whole[0], 1 - 0.12 / whole[1], text, va="top", fontsize=12, fontweight="bold")
    axes = []
    for row in range(rows):
        left, low = first, bottom + (rows - 1 - row) * (height + above)
        for each in widths:
            axes.append(figure.add_axes((left / whole[0], low / whole[1], each / whole[0], height / whole[1])))
            left += each + between
    return figure, axes


def style_axes(axes: Axes, title: str, across: str, up: str) -> None:
    """Set the title and labels of axes, and a light grid instead of a box."""
    label_axes(axes, title, across, up)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def label_axes(axes: Axes, title: str, across: str, up: str) -> None:
    """Set the title and labels of axes."""
    axes.set_title(title, fontsize=10, loc="left", y=1)  # automatic placement is slow
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def number_axes(axes: Axes) -> None:
    """Write few numbers along the axes, and powers of ten where they are long. The limits must be set before."""
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if isinstance(axis.get_major_formatter(), ScalarFormatter):
            # Differences under "+1e6" are easily taken for the values: only for numbers that differ in late digits.
            differ = abs(high - low) > SMALLEST_DIFFERENCE * max(abs(low), abs(high))
            name: Literal["x", "y"] = "x" if axis is axes.xaxis else "y"
            axes.locator_params(axis=name, nbins=5)
            axes.ticklabel_format(
                axis=name, style="sci", scilimits=(-3, 4), useMathText=True, useOffset=False if differ else None
            )
    # The power of ten of the vertical axis stands where the title would be.
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=10, y=1.06)


def plain(text: str) -> str:
    """Return a user's text on one line, with escapes for dollar signs, which Matplotlib would take for a formula."""
    return visible(text).replace("$", r"\$")


def shortened(text: str, length: int) -> str:
    """Return a user's text as visible characters, and only its beginning if there are more than `length`."""
    text = visible(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", pil_kwargs={"compress_level": 1})
    return content.getvalue()
