"""Peak memory of a step: the resident set of a fresh process, beyond what it held before it built anything."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from workload import Workload

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _mib(field: str) -> float:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def peak(position: int, subject: str) -> float | None:
    """Return MiB for the workload at a position in the table; None where the kernel does not tell (not Linux)."""
    if not STATUS.exists():
        return None
    command = [sys.executable, str(Path(__file__)), str(position), subject]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(workload: Workload, subject: str) -> float:
    from gradfleet_step import GradfleetStep  # noqa: PLC0415

    def build(built: Workload) -> Callable[[], None]:
        if subject == "gradfleet":
            return GradfleetStep(built)
        from torch_step import TorchStep  # noqa: PLC0415

        return TorchStep(built, GradfleetStep(built).weights(), compiled=False)

    # Loads what is loaded at first use; large enough for the engine to compile its loops.
    build(replace(workload, widths=(256, 256), batch=4))()
    before = _mib("VmRSS")
    step = build(workload)
    for _ in range(2):
        step()
    RESET.write_text("5")  # forget the peak so far: building takes float64 draws that training does not
    for _ in range(3):
        step()
    return _mib("VmHWM") - before


if __name__ == "__main__":
    from threadpoolctl import threadpool_limits
    from workload import workloads

    with threadpool_limits(1):
        print(_measure(list(workloads())[int(sys.argv[1])], sys.argv[2]))
