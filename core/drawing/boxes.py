"""What every picture of a graph shows: boxes with words, and arrows between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.graph.table import Row


def words_of(entry: Row) -> list[str]:
    """Return the lines of text in an entry's box."""
    words = [f"{entry.name}: {entry.type}", str(entry.shape)]
    return [*words, f"parameters: {entry.learns}"] if entry.learns else words


def arrows_of(found: list[Row]) -> Iterator[tuple[int, int, bool]]:
    """Yield each arrow: (from, to, whether it stands for shared parameters), as positions."""
    positions = {entry.name: index for index, entry in enumerate(found)}
    for target, entry in enumerate(found):
        yield from ((positions[value], target, False) for value in entry.reads)
        if entry.owner not in {None, entry.name} and entry.count:
            yield positions[str(entry.owner)], target, True
