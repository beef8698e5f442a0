"""Control messages: commands, readiness, and small tables of figures. Vectors are the business of a `Collective`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from typing import Any

from numpy.typing import NDArray

from workers.exchange.messages import Exchange, Kind
from workers.exchange.round import Round


class Command(IntFlag):
    """What all workers do after a step, as the leader decides. It travels as the note of the step's gradient sums."""

    NONE = 0
    STOP = 1
    CHECKPOINT = 2


def wait_until_ready(exchange: Exchange) -> None:
    """Wait until every worker of the attempt has called this, once.

    Raises `PeerSilentError`.
    """
    exchange.send_to_all(Kind.READY, 0, [])
    exchange.receive(Kind.READY, 0)


class TableGather:
    """Gathers a table of which each worker fills in the rows that it owns, by rank."""

    def __init__(self, exchange: Exchange, table: NDArray[Any], owned: Sequence[slice]) -> None:
        mine, peers = table[owned[exchange.membership.rank]], exchange.peers
        self._round = Round(
            exchange, Kind.EVALUATION, {peer: [mine] for peer in peers}, {peer: [table[owned[peer]]] for peer in peers}
        )

    def run(self, step: int) -> None:
        """Send the own rows to all other workers and receive theirs.

        Raises `PeerSilentError`.
        """
        self._round.run(step)
