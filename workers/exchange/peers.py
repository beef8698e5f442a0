"""The collective operations among processes: through shared memory where two workers share it, else by messages.

Any two workers may share memory or not. The vectors that all workers have in common, such as the parameters, exist once
in the memory of each home (see `Sharing.home`): each worker changes only the slice that it owns. A worker reads the
gradient sums of a peer whose memory it has opened in place. To all other workers, the data are sent.

This is safe because operations go in rounds, in which every worker sends a message to every other one and waits for
theirs. A worker computes gradients into its sums, and its shards' rows of the table, after every peer's last message of
the step before, so no peer still reads them. It changes its slice of the parameters, the state, the squares and any
gradient sum after every peer's message that its gradients are there, so every peer has also finished reading the
parameters. Where several workers share memory, a slice that another worker sends to each of them is written by each of
them: the same bytes, before any of them sends the message that it has finished.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core import aligned_zeros
from workers.exchange.messages import Exchange, Kind
from workers.exchange.partition import Partition
from workers.exchange.round import Round
from workers.exchange.shared_memory import Declaration
from workers.exchange.tree import additions
from workers.exchange.vectors import FIRST_COLUMNS, Vector
from workers.machine.device import HOST, Device


class PeerCollective:
    """A `Collective` over an exchange that is connected. All workers make one at the same time, once.

    A peer's first message must not arrive before: call `wait_until_ready` between this and the first operation.

    The parameters begin as `initial`; `slots` are those of the optimiser's state, and `columns` are those of the table
    of shards. `device` is the device that will copy from and to this worker's vectors.
    Raises `PeerSilentError`.
    """

    def __init__(
        self,
        exchange: Exchange,
        partition: Partition,
        initial: Vector,
        slots: Sequence[str] = (),
        columns: int = FIRST_COLUMNS,
        device: Device = HOST,
    ) -> None:
        self._rank, self._peers = exchange.membership.rank, exchange.peers
        self._exchange, self._partition, self._sharing = exchange, partition, exchange.meet()
        self._allocate(initial, slots, columns, device)
        squares = (self.squares, partition.squares)
        states = [(vector, partition.parameters) for vector in self.state.values()]
        self._gradients_round = self._round(Kind.GRADIENTS, [(self.table, partition.rows)])
        self._squares_round = self._round(Kind.SQUARES, [squares])
        self._parameters_round = self._round(Kind.PARAMETERS, [(self.parameters, partition.parameters), squares])
        self._state_round = self._round(Kind.STATE, states)

    def _allocate(self, initial: Vector, slots: Sequence[str], columns: int, device: Device) -> None:
        rank, partition, sharing = self._rank, self._partition, self._sharing
        home, mine = sharing.home(rank), partition.parameters[rank]
        vector: Declaration = (initial.shape, initial.dtype)
        common: list[Declaration] = [
            ((partition.rows[-1].stop, columns), np.float64),
            ((partition.squares[-1].stop,), initial.dtype),
            *[vector] * (1 + len(slots)),
        ]
        opened: dict[int, tuple[list[Vector], list[Vector]]] = {}
        for owner, subtrees in enumerate(partition.subtrees):
            if sharing.reads(rank, owner):
                declared = common if sharing.home(owner) == owner else []
                arrays = sharing.arrays(
                    owner, [*declared, *[vector] * len(subtrees)], device if owner in {home, rank} else HOST
                )
                opened[owner] = arrays[: len(declared)], arrays[len(declared) :]
        self.table, self.squares, self.parameters, *state = opened[home][0]
        self.state = dict(zip(slots, state, strict=True))
        np.copyto(self.parameters, initial)  # workers that share them all write the same
        self.sums = opened[rank][1]
        # Each worker's gradient sums on this worker's slice.
        self._operands = [
            [total[mine] for total in opened[owner][1]]
            if owner in opened
            else [aligned_zeros((mine.stop - mine.start,), initial.dtype) for _ in subtrees]
            for owner, subtrees in enumerate(partition.subtrees)
        ]
        operands = [operand for of_worker in self._operands for operand in of_worker]
        roots = [subtree for subtrees in partition.subtrees for subtree in subtrees]
        self.gradient = operands[0]
        self.additions = [
            (operands[into], operands[source]) for into, source in additions(roots, partition.rows[-1].stop)
        ]

    def _round(self, kind: Kind, gathered: Sequence[tuple[Vector, Sequence[slice]]]) -> Round:
        """A round that gathers vectors, of which each worker owns a slice; one of gradients scatters the sums, too."""
        rank, sharing = self._rank, self._sharing
        outgoing: dict[int, list[Vector]] = {peer: [] for peer in self._peers}
        incoming: dict[int, list[Vector]] = {peer: [] for peer in self._peers}
        for peer in self._peers:
            if kind is Kind.GRADIENTS and not sharing.reads(peer, rank):
                outgoing[peer] += [total[self._partition.parameters[peer]] for total in self.sums]
            if kind is Kind.GRADIENTS and not sharing.reads(rank, peer):
                incoming[peer] += self._operands[peer]
            if sharing.home(peer) != sharing.home(rank):
                outgoing[peer] += [vector[owned[rank]] for vector, owned in gathered]
                incoming[peer] += [vector[owned[peer]] for vector, owned in gathered]
        return Round(self._exchange, kind, outgoing, incoming)

    def reduce_scatter(self, step: int, note: int = 0) -> int:
        """Send the sums that peers do not read where they are."""
        return self._gradients_round.run(step, note)

    def gather_squares(self, step: int) -> None:
        """Send the squares to the peers that do not share them."""
        self._squares_round.run(step)

    def gather_parameters(self, step: int) -> None:
        """Send the parameters and the squares to the peers that do not share them."""
        self._parameters_round.run(step)

    def gather_state(self, step: int) -> None:
        """Send the optimiser's state to the peers that do not share it."""
        self._state_round.run(step)
