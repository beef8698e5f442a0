"""Checks that what the nodes of a graph read as indices are indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.graph.indices import first_invalid, index_reads

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from core.graph.graph import Graph
    from core.plan.plan import Plan


class InvalidIndexError(ValueError):
    """A node reads a number as an index that is not an integer, or not in the node's range."""


class IndexCheck:
    """Checks what the nodes of a graph have read as indices, after a forward pass.

    The nodes themselves clip indices, since a kernel cannot name a row of a dataset.
    """

    def __init__(self, graph: Graph) -> None:
        self._reads = index_reads(graph)
        #: nodes that must be among the outputs of a plan that is checked
        self.outputs = tuple(dict.fromkeys(read.source for read in self._reads if read.source in graph.nodes))

    def check(self, plan: Plan, rows: Sequence[int] | NDArray[np.int64]) -> None:
        """Check the indices of a plan's last forward pass; `rows` are the numbers of the batch's rows, for the message.

        Raises InvalidIndexError, which names the node, the number and the row.
        """
        for read in self._reads:
            values = plan.inputs[read.source] if read.source in plan.inputs else plan.value(read.source)
            place = first_invalid(values, read.limit, plan.xp)
            if place is not None:
                raise InvalidIndexError(
                    f"node {read.node!r} reads {read.source!r} as indices, which must be integers from 0 to "
                    f"{read.limit - 1}, but row {rows[place[0]]} has {values[place]!s}"
                )
