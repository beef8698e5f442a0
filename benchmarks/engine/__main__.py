"""Compare a training step of the engine with PyTorch: `make bench-engine`, or with ARGS=--quick.

With ARGS=--images, it is a step of convolutional networks, and both passes of single convolutions.

All subjects of a row (the engine, PyTorch eager and compiled, the matrix products alone) run in one process and take
turns within each round.
"""

from __future__ import annotations

import argparse
import gc
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from benchmarks.common.processors import seconds_of_others
from benchmarks.common.results import installed, machine
from benchmarks.common.timing import rotated, seconds, wait_for_idle_threads
from benchmarks.common.workload import Workload, workloads
from benchmarks.engine import memory, report
from benchmarks.engine.gradfleet import Floor, GradfleetStep
from benchmarks.engine.images import ImageFloor, step_of
from benchmarks.engine.networks import ImageWorkload, image_workloads

TURN = 0.02  # seconds that a subject's turn within a round takes at least
ROUNDS = 41


def subjects_of(workload: Workload | ImageWorkload, *, compiled: bool) -> dict[str, Any]:
    """Return the subjects by name, warmed up, after a check that they compute the same."""
    ours: Any
    if isinstance(workload, ImageWorkload):
        ours, floor = step_of(workload), ImageFloor(workload)
    else:
        ours, floor = GradfleetStep(workload), Floor(workload)
    subjects: dict[str, Any] = {"gradfleet": ours, "floor": floor}
    if installed("torch"):
        subjects |= _peers(workload, ours.weights(), compiled=compiled)
    for each in subjects.values():
        for _ in range(1 if isinstance(workload, ImageWorkload) else 5):
            each()
    # Adam's first steps depend on the signs of the gradients, not on their size, so that rounding matters.
    for name in subjects.keys() & report.PEERS:
        if not np.isclose(ours.loss(), subjects[name].loss(), rtol=1e-2):
            raise AssertionError(f"{workload.name}: losses {ours.loss()} and, {name}, {subjects[name].loss()}")
    return subjects


def _peers(workload: Workload | ImageWorkload, weights: list[np.ndarray], *, compiled: bool) -> dict[str, Any]:
    if not isinstance(workload, ImageWorkload):
        from benchmarks.engine.pytorch import TorchStep  # noqa: PLC0415

        forms = {"eager": False} | ({"compiled": True} if compiled else {})
        return {name: TorchStep(workload, weights, compiled=form) for name, form in forms.items()}
    from benchmarks.engine.torch_images import TorchImages  # noqa: PLC0415

    # A single convolution is one kernel, of which nothing is compiled. Networks are compiled in the faster layout.
    return {
        name: TorchImages(workload, weights, last="last" in name, compiled="compiled" in name)
        for name in report.IMAGE_PEERS
        if "compiled" not in name or (compiled and not workload.single)
    }


def measure(
    workload: Workload | ImageWorkload, budget: float, *, compiled: bool
) -> tuple[dict[str, list[float]], float | None]:
    """Return microseconds per step, by subject and round, and the CPUs that other processes used meanwhile."""
    subjects = subjects_of(workload, compiled=compiled)
    calls = 1 if isinstance(workload, ImageWorkload) else 3
    repeats = {name: max(1, int(TURN / seconds(step, calls))) for name, step in subjects.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    gc.collect()
    gc.disable()
    try:
        start, others = perf_counter(), seconds_of_others()
        for turn in range(ROUNDS):
            if turn >= 5 and perf_counter() - start > budget:
                break
            for name in rotated(names, turn):
                wait_for_idle_threads()
                if repeats[name] > 1:  # a longer step does not depend on the caches before it
                    seconds(subjects[name], 1 + repeats[name] // 10)
                times[name].append(1e6 * seconds(subjects[name], repeats[name]))
        after = seconds_of_others()
        taken = None if others is None or after is None else (after - others) / (perf_counter() - start)
    finally:
        gc.enable()
        for each in subjects.values():
            each.close()
    return times, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no torch.compile, no memory, no files")
    parser.add_argument("--images", action="store_true", help="convolutional networks and single convolutions")
    parser.add_argument("--eager", action="store_true", help="no torch.compile, which takes minutes with --images")
    parser.add_argument("--only", default="", help="rows whose name contains this: '784-10 at', 'adam, 1 thread'")
    parser.add_argument("--name", help="name of the files in benchmarks/results; default: engine and the date")
    arguments = parser.parse_args()
    quick: bool = arguments.quick

    openblas = ThreadpoolController().select(internal_api="openblas")
    setting = machine()
    table = report.IMAGES if arguments.images else report.NETWORKS
    rows = []
    print(table.header, flush=True)
    with openblas.limit(limits=1):
        for position, workload in enumerate(image_workloads() if arguments.images else workloads()):
            if arguments.only not in workload.name:
                continue
            kept: dict[str, float | None] = {}
            single = arguments.images and workload.single
            if not quick and workload.threads == 1 and not single:
                subjects = ["gradfleet"] + list(table.memory[1:]) * (setting["torch"] is not None)
                kept = {subject: memory.peak(position, subject, images=arguments.images) for subject in subjects}
            budget = 1.0 if single else 1.5 if quick else 5.0
            times, others = measure(workload, budget, compiled=not (quick or arguments.eager))
            rows.append(report.row(workload, times, kept, others))
            print(table.line(rows[-1]), flush=True)
    print(f"\n{report.summary(rows)}")
    if arguments.name or not quick:
        print(report.write(setting, rows, arguments.name or f"{table.name}-{setting['date']}", table))


if __name__ == "__main__":
    main()
