"""Tables for terminals and pipes."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Column, Table

from service.cli.terminal import output, print_wide
from service.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2  # around each column
SMALLEST, LARGEST = 0.01, 1e5  # figures that are shown with four decimals
SHOWN = 0.00005  # the least number that is not 0 with four decimals


def figure(value: float) -> str:
    """Return a figure with four decimals, or with four digits if that would hide its size."""
    return f"{value:.4f}" if value == 0 or SMALLEST <= abs(value) < LARGEST else f"{value:.4g}"


def spread(mean: float, deviation: float) -> str:
    """Return "mean ± standard deviation"; the deviation has as many decimals as the mean, unless none would be left."""
    fixed = SMALLEST <= abs(mean) < LARGEST and SHOWN <= deviation < LARGEST
    return f"{figure(mean)} ± {f'{deviation:.4f}' if fixed else figure(deviation)}"


def columns_that_fit(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], needed: int) -> int:
    """Number of the first columns that a terminal is wide enough for, at least `needed`; in a pipe, all."""
    if not output.is_terminal:
        return len(columns)
    widths = (max(cell_len(visible(cell)) for cell in column) for column in zip(columns, *rows, strict=True))
    ends = accumulate(width + GAP for width in widths)
    return max(needed, sum(end <= output.width for end in ends))


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a line for each row. The first column is never truncated, and in a pipe no column is."""
    head, *lines = [tuple(map(visible, row)) for row in (columns, *rows)]
    first, *others = head
    width = max(cell_len(line[0]) for line in (head, *lines))
    table = Table(Column(first, no_wrap=True, min_width=width), *others, box=None)
    for line in lines:
        table.add_row(*line)
    print_wide(table)
