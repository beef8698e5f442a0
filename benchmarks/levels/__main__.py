"""What each level of arithmetic of this CPU costs: `make bench-levels`.

A process for each level measures steps on one thread, in turns with the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from statistics import median
from time import perf_counter

from benchmarks.common.timing import seconds
from benchmarks.common.workload import NETWORKS, Workload
from benchmarks.engine.gradfleet import GradfleetStep
from workers.machine.arithmetic import levels_here

ROUNDS = 5
TURN = 0.5  # seconds for which a network is measured in a round


def measure() -> dict[str, float]:
    """Median microseconds of a step of each network, in this process."""
    found = {}
    for widths, batch in NETWORKS[:4]:
        workload = Workload(widths, batch, "softmax", "sgd", 1)
        step = GradfleetStep(workload)
        seconds(step, 5)
        times, start = [], perf_counter()
        while perf_counter() - start < TURN:
            times.append(1e6 * seconds(step, 5))
        step.close()
        found[workload.network] = median(times)
    return found


def main() -> None:
    if "--measure" in sys.argv:
        json.dump(measure(), sys.stdout)
        return
    levels = levels_here()
    rounds: dict[str, list[dict[str, float]]] = {level.name: [] for level in levels}
    for _, level in product(range(ROUNDS), levels):
        command = [sys.executable, "-m", "benchmarks.levels", "--measure"]
        output = subprocess.check_output(command, env=os.environ | level.environment, text=True)
        rounds[level.name].append(json.loads(output))
    print("| network, microseconds of a step on one thread |" + "".join(f" {level.name} |" for level in levels))
    print("|---|" + "---:|" * len(levels))
    for network in rounds[levels[0].name][0]:
        medians = [median(found[network] for found in rounds[level.name]) for level in levels]
        print(f"| {network} |" + "".join(f" {each:,.0f} ({each / medians[-1]:.2f}) |" for each in medians))


if __name__ == "__main__":
    main()
