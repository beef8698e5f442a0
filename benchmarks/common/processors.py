"""How busy the machine is, from /proc/stat."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
QUIET = 0.2  # CPUs that idle servers may use
LONGEST = 10.0  # seconds


def busy_seconds() -> float | None:
    """Return the CPU seconds of all processes and of other guests so far; None if not on Linux."""
    if not STAT.exists():
        return None
    user, nice, system, _, _, *interrupts_and_steal = map(int, STAT.read_text().split()[1:9])
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def seconds_of_others() -> float | None:
    """Return the CPU seconds of all processes except this one so far."""
    busy = busy_seconds()
    return None if busy is None else busy - time.process_time()


def wait_until_quiet() -> bool:
    """Wait for a second in which the machine is idle; False if there is none within `LONGEST`."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        before = busy_seconds()
        time.sleep(1.0)
        after = busy_seconds()
        if before is not None and after is not None and after - before < QUIET:
            return True
    return False
