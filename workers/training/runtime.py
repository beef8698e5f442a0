"""Where one worker computes."""

from __future__ import annotations

from dataclasses import dataclass

from workers.exchange.messages import Exchange
from workers.machine.device import HOST, Device
from workers.machine.threads import Threads


@dataclass(frozen=True)
class Runtime:
    """One worker's end of the exchange, its threads and its device. The bits of a result do not
    depend on the exchange and the threads; those of a GPU differ from those of a CPU.
    """

    exchange: Exchange
    threads: Threads
    device: Device = HOST

    @property
    def lanes(self) -> int:
        """Shards that are computed at the same time."""
        return self.threads.count if self.device.threaded else 1
