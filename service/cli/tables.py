"""Tables for terminals and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Column, Table

from service.cli.terminal import print_wide
from service.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a line for each row. The first column is never truncated, and in a pipe no column is."""
    head, *lines = [tuple(map(visible, row)) for row in (columns, *rows)]
    first, *others = head
    width = max(cell_len(line[0]) for line in (head, *lines))
    table = Table(Column(first, no_wrap=True, min_width=width), *others, box=None)
    for line in lines:
        table.add_row(*line)
    print_wide(table)
