"""Peak memory of a step: how much the resident set of a new process grows."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.common.results import ROOT
from benchmarks.common.workload import Workload, workloads
from benchmarks.engine.gradfleet import GradfleetStep

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _mib(field: str) -> float:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def peak(position: int, subject: str) -> float | None:
    """Return MiB for the workload at a position in the table; None if not on Linux."""
    if not STATUS.exists():
        return None
    command = [sys.executable, "-m", "benchmarks.engine.memory", str(position), subject]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def _measure(workload: Workload, subject: str) -> float:
    def build(built: Workload) -> Callable[[], None]:
        if subject == "gradfleet":
            return GradfleetStep(built)
        from benchmarks.engine.pytorch import TorchStep  # noqa: PLC0415

        return TorchStep(built, GradfleetStep(built).weights(), compiled=False)

    # Loads what is loaded at the first use. It is large enough for the engine to compile its loops.
    build(replace(workload, widths=(256, 256), batch=4))()
    before = _mib("VmRSS")
    step = build(workload)
    for _ in range(2):
        step()
    RESET.write_text("5")  # reset the peak: the initial weights are drawn in float64
    for _ in range(3):
        step()
    return _mib("VmHWM") - before


if __name__ == "__main__":
    with threadpool_limits(1):
        print(_measure(list(workloads())[int(sys.argv[1])], sys.argv[2]))
