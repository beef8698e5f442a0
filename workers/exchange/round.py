"""A communication round: one message of one kind from every worker to every other one."""

from __future__ import annotations

from collections.abc import Mapping

from workers.exchange.messages import Buffers, Exchange, Kind


class Round:
    """The buffers that a kind of message carries to each peer, and those that receive what each peer sends, by rank.

    A message without buffers is a signal, for example that data in shared memory is ready.
    """

    def __init__(
        self, exchange: Exchange, kind: Kind, outgoing: Mapping[int, Buffers], incoming: Mapping[int, Buffers]
    ) -> None:
        self._exchange, self._kind, self._outgoing = exchange, kind, outgoing
        exchange.receive_into(kind, incoming)

    def run(self, step: int, note: int = 0) -> int:
        """Send the messages of a step and wait for those of all peers; returns the leader's note.

        The note is a byte that goes along. The outgoing buffers must not change until every peer has sent its message
        of a later round. Raises `PeerSilentError`.
        """
        if not self._outgoing:
            return note
        for rank, buffers in self._outgoing.items():
            self._exchange.send(self._kind, step, rank, buffers, note=note)
        received = self._exchange.receive(self._kind, step)
        return note if self._exchange.leads else received
