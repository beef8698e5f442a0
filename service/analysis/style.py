"""How all pictures look."""

from __future__ import annotations

import io
from textwrap import wrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

# Okabe and Ito's colours, which those who see red and green alike can tell apart.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
DPI = 100
CHARACTERS_PER_INCH = 8  # of a title


def panels(title: str, widths: Sequence[float], height: float, names: float = 0) -> tuple[Figure, list[Axes]]:
    """Make a figure with a title, and axes side by side, so many inches wide and high.

    `names` are the inches that names on the first axes take beside them and below. All places are fixed: to let
    Matplotlib find them takes more than half of the time of the whole drawing.
    """
    left, between, right, bottom = 0.7 + names, 0.75, 0.2, 0.55 + names
    width = left + sum(widths) + between * (len(widths) - 1) + right
    lines = wrap(title, int(width * CHARACTERS_PER_INCH))
    whole = width, bottom + height + 0.55 + 0.2 * len(lines)
    figure = Figure(figsize=whole, dpi=DPI)
    text = plain("\n".join(lines))
    figure.text(0.12 / whole[0], 1 - 0.12 / whole[1], text, va="top", fontsize=12, fontweight="bold")
    axes = []
    for each in widths:
        axes.append(figure.add_axes((left / whole[0], bottom / whole[1], each / whole[0], height / whole[1])))
        left += each + between
    return figure, axes


def style_axes(axes: Axes, title: str, across: str, up: str) -> None:
    """Give axes their titles, a faint grid, and no box around them."""
    label_axes(axes, title, across, up)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def label_axes(axes: Axes, title: str, across: str, up: str) -> None:
    """Give axes their titles only."""
    axes.set_title(title, fontsize=10, loc="left", y=1)  # a place of its own choice takes Matplotlib long to find
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def plain(text: str) -> str:
    """Text that a user wrote, shown as it is: dollars would begin a formula."""
    return text.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", pil_kwargs={"compress_level": 1})
    return content.getvalue()
