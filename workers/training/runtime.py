"""Where one worker computes."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.exchange.messages import Exchange
from workers.machine.arenas import Arenas
from workers.machine.device import Device
from workers.machine.threads import Threads


@dataclass(frozen=True)
class Runtime:
    """One worker's end of the exchange, its threads, and their memory on its device.

    The bits of a result do not depend on the exchange and the threads; those of a GPU differ from those of a CPU.
    """

    exchange: Exchange
    threads: Threads
    arenas: Arenas = field(default_factory=Arenas)

    @property
    def device(self) -> Device:
        """Where plans run."""
        return self.arenas.device

    @property
    def lanes(self) -> int:
        """Shards that are computed at the same time."""
        return self.threads.count if self.device.threaded else 1
