"""How busy the machine is, by Linux's account of it."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
QUIET = 0.2  # processors that idle servers may take
LONGEST = 10.0  # seconds


def busy_seconds() -> float | None:
    """Return what all processes together have taken so far, other guests' share included; None if not on Linux."""
    if not STAT.exists():
        return None
    user, nice, system, _, _, *interrupts_and_steal = map(int, STAT.read_text().split()[1:9])
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def seconds_of_others() -> float | None:
    """Return what all processes but this one have taken so far."""
    busy = busy_seconds()
    return None if busy is None else busy - time.process_time()


def wait_until_quiet() -> bool:
    """Wait for a second in which the machine does next to nothing; False when there is none within `LONGEST`."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        before = busy_seconds()
        time.sleep(1.0)
        after = busy_seconds()
        if before is not None and after is not None and after - before < QUIET:
            return True
    return False
