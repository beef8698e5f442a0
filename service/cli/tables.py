"""Tables for terminals and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from service.cli.connection import output

if TYPE_CHECKING:
    from collections.abc import Sequence

PIPE_WIDTH = 1000


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of text. The first column is never truncated, and in a pipe no column is."""
    table = Table(Column(columns[0], no_wrap=True, min_width=max(len(row[0]) for row in [columns, *rows])), box=None)
    for column in columns[1:]:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    (output if output.is_terminal else Console(width=PIPE_WIDTH)).print(table, highlight=False)
