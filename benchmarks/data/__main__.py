"""Load shuffled rows from the page cache into a batch's buffer: `make bench-data`, or with ARGS=--quick.

All subjects of a row run in one process and take turns within each round.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.common import results
from benchmarks.common.processors import seconds_of_others
from benchmarks.common.timing import rotated, seconds
from benchmarks.common.workload import Workload
from benchmarks.data.subjects import BATCH, engine, loader, take
from benchmarks.engine.gradfleet import GradfleetStep
from service.datasets.preparation.writing import write_dataset
from workers.data.dataset import DatasetInfo, open_dataset

TABLES = ((784, "uint8", 200_000), (784, "float32", 200_000), (3072, "uint8", 50_000))
TURN = 0.05  # seconds that a subject's turn within a round takes at least
ROUNDS = 21
STEPS = 50  # of a round; one loading is timed after each of them
SUBJECTS = {
    "take": "numpy.take",
    "gradfleet": "gradfleet",
    "plain": "without Numba",
    "scaled": "standardized",
    "loader": "DataLoader",
    "workers": "2 workers",
    "batched": "batched",
}
# A step of `make bench-engine`, with which the loading of its batch is compared.
STEP = Workload((784, 128, 10), BATCH, "softmax", "sgd", threads=1)


def table_in(directory: Path, width: int, dtype: str, rows: int) -> np.ndarray:
    """Return the memory-mapped features of a dataset that is in the page cache."""
    numbers = np.random.default_rng(0).integers(0, 256, rows * width, np.uint8).astype(dtype)
    info = DatasetInfo("", "", rows, width, ("one",), dtype)
    info = write_dataset(info, numbers, np.zeros(rows, np.int64), None, directory, directory)
    return open_dataset(info)[0]


def subjects_of(table: np.ndarray, *, torch: bool) -> dict[str, Callable[[], None]]:
    subjects = {
        "take": take(table),
        "gradfleet": engine(table),
        "plain": engine(table, compiled=False),
        "scaled": engine(table, scaled=True),
    }
    if torch:
        subjects |= {
            "loader": loader(table, 0),
            "workers": loader(table, 2),
            "batched": loader(table, 0, batched=True),
        }
    return subjects


def measure(subjects: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return microseconds per call, by subject and round."""
    for call in subjects.values():
        call()  # compiles it, and starts its workers
    # Workers prefetch: only a small part of a turn may be ready when it begins.
    repeats = {name: max(20, int(TURN / seconds(call, 10))) for name, call in subjects.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    for turn in range(rounds):
        for name in rotated(names, turn):
            seconds(subjects[name], 1 + repeats[name] // 4)
            times[name].append(1e6 * seconds(subjects[name], repeats[name]))
    return times


def row(name: str, times: dict[str, list[float]]) -> dict[str, object]:
    medians = {subject: float(np.median(values)) for subject, values in times.items()}
    ratios = {subject: float(np.median(np.divide(times[subject], times["gradfleet"]))) for subject in times}
    return {
        "table": name,
        "rows_per_second": {subject: round(BATCH / value * 1e6) for subject, value in medians.items()},
        "times_as_fast_as": {subject: round(ratio, 2) for subject, ratio in ratios.items()},
    }


def step_share(directory: Path, rounds: int) -> dict[str, object]:
    """Return the time of a step without loading, and the times of loading its batch as shares of it.

    Each loading is timed after a step, as in training: otherwise its buffer would be in the nearest cache.
    """
    step = GradfleetStep(STEP)
    loads = {}
    for dtype in ("uint8", "float32"):
        table = table_in(directory, 784, dtype, 200_000)
        loads |= {
            f"{dtype} loaded": engine(table),
            f"{dtype} standardized": engine(table, scaled=True),
            f"{dtype} by numpy.take": take(table),
        }
    taken: dict[str, list[float]] = {name: [] for name in ("step", *loads)}
    for _ in range(rounds):
        for name, load in loads.items():
            load()
            for _ in range(STEPS):
                taken["step"].append(seconds(step, 1))
                taken[name].append(seconds(load, 1))
    step.close()
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    of_step = medians.pop("step")
    shares = {name: round(median / of_step, 4) for name, median in medians.items()}
    return {"step_microseconds": round(1e6 * of_step, 1), "shares": shares}


def text_of(rows: list[dict[str, object]], share: dict[str, object]) -> str:
    """Return the results as Markdown."""
    names = [name for name in SUBJECTS if name in rows[0]["rows_per_second"]]
    lines = [f"| million rows a second | {' | '.join(SUBJECTS[name] for name in names)} |"]
    lines.append("|---|" + "--:|" * len(names))
    for each in rows:
        cells = [f"{each['rows_per_second'][name] / 1e6:.3f}" for name in names]
        lines.append(f"| {each['table']} | {' | '.join(cells)} |")
    lines += ["", f"| times as fast as | {' | '.join(SUBJECTS[name] for name in names)} |"]
    lines.append("|---|" + "--:|" * len(names))
    for each in rows:
        cells = [f"{each['times_as_fast_as'][name]:.2f}" for name in names]
        lines.append(f"| {each['table']} | {' | '.join(cells)} |")
    parts = ", ".join(f"{name} {value:.1%}" for name, value in share["shares"].items())
    lines += ["", f"Of a step of {STEP.network} ({share['step_microseconds']:.0f} us), a batch takes: {parts}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no files")
    quick: bool = parser.parse_args().quick
    setting = results.machine()
    has_torch = setting["torch"] is not None
    if has_torch:
        import torch  # noqa: PLC0415

        torch.set_num_threads(1)
    rows, rounds = [], 5 if quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        start, others = perf_counter(), seconds_of_others()
        for width, dtype, count in TABLES:
            table = table_in(Path(folder), width, dtype, count)
            rows.append(row(f"{width} {dtype}", measure(subjects_of(table, torch=has_torch), rounds)))
        share = step_share(Path(folder), rounds)
        after = seconds_of_others()
    taken = None if others is None or after is None else (after - others) / (perf_counter() - start)
    text = text_of(rows, share)
    print(text)
    if not quick:
        setting["processors_taken_by_others"] = taken and round(taken, 2)
        heading = f"# Loading rows into a batch\n\n{results.about(setting)}."
        figures = {"machine": setting, "rows": rows, "step": share}
        results.write(f"data-{setting['date']}", figures, f"{heading}\n\n{text}\n")


if __name__ == "__main__":
    main()
