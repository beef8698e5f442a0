"""How many rows go through a model at once where no gradients are wanted."""

from __future__ import annotations

from bisect import bisect_right
from math import prod
from typing import TYPE_CHECKING, Final

from core.plan.program import Program

if TYPE_CHECKING:
    from core.graph.graph import Graph

MOST_ROWS: Final = 1024
#: Values of a pass. With 1,024 rows, those of 784-4096-10 take 35 MiB.
MOST_BYTES: Final = 64 * 2**20


def rows_per_pass(graph: Graph) -> int:
    """Return how many rows go through a graph from "features" to "scores" at once in evaluation.

    It is the largest power of two, at most `MOST_ROWS`, for which the values take at most `MOST_BYTES`, or 1 if those
    of one row take more. The bits of scores depend on the number of rows, so it follows from the graph alone and is the
    same on every machine, with or without the loss in the graph.
    """
    if _bytes(graph, MOST_ROWS) <= MOST_BYTES:
        return MOST_ROWS
    fewer = [1 << exponent for exponent in range(MOST_ROWS.bit_length() - 1)]
    fitting = bisect_right(fewer, MOST_BYTES, key=lambda rows: _bytes(graph, rows))
    return fewer[max(0, fitting - 1)]


def _bytes(graph: Graph, rows: int) -> int:
    """Memory of a pass, without inputs that it does not read, such as labels."""
    program = Program.compile(graph, ("scores",), batch=rows, backward=False)
    read = {name for step in program.instructions for name in step.inputs}
    unread = [program.buffers["value", name] for name in program.inputs if name not in read]
    return program.nbytes - sum(prod(buffer.shape) * buffer.dtype.itemsize for buffer in unread)
