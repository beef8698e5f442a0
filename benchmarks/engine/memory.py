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
from benchmarks.engine.images import step_of
from benchmarks.engine.networks import ImageWorkload, image_workloads

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _mib(field: str) -> float:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def peak(position: int, subject: str, *, images: bool) -> float | None:
    """Return MiB for the workload at a position in the table, that of images or the other; None if not on Linux."""
    if not STATUS.exists():
        return None
    command = [sys.executable, "-m", "benchmarks.engine.memory", str(position), subject, *["images"] * images]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def _build(workload: Workload | ImageWorkload, subject: str) -> Callable[[], None]:
    if isinstance(workload, ImageWorkload):
        ours = step_of(workload)
        if subject == "gradfleet":
            return ours
        from benchmarks.engine.torch_images import TorchImages  # noqa: PLC0415

        return TorchImages(workload, ours.weights(), last="last" in subject, compiled=False)
    if subject == "gradfleet":
        return GradfleetStep(workload)
    from benchmarks.engine.pytorch import TorchStep  # noqa: PLC0415

    return TorchStep(workload, GradfleetStep(workload).weights(), compiled=False)


def _measure(workload: Workload | ImageWorkload, subject: str) -> float:
    # Loads what is loaded at the first use. It is large enough for the engine to compile its loops.
    if isinstance(workload, ImageWorkload):
        small = replace(workload, batch=1)
    else:
        small = replace(workload, widths=(256, 256), batch=4)
    _build(small, subject)()
    before = _mib("VmRSS")
    step = _build(workload, subject)
    for _ in range(2):
        step()
    RESET.write_text("5")  # reset the peak: the initial weights are drawn in float64
    for _ in range(3):
        step()
    return _mib("VmHWM") - before


if __name__ == "__main__":
    with threadpool_limits(1):
        table = list(image_workloads() if "images" in sys.argv else workloads())
        print(_measure(table[int(sys.argv[1])], sys.argv[2]))
