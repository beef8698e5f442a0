"""Results of benchmarks: the machine they were measured on, and the files they are kept in."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
QUIET = 0.1  # CPUs that other processes may use


def installed(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Return the date, the machine and the versions of the libraries."""
    name = platform.processor() or platform.machine()
    if (information := Path("/proc/cpuinfo")).exists():
        models = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "torch": installed("torch"),
    }


def about(setting: dict[str, Any]) -> str:
    """Return what `machine` returns as text."""
    return ", ".join(f"{key} {value}" for key, value in setting.items() if value is not None)


def speedup(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Return how many times as fast as theirs ours is, and the quartiles of this ratio.

    The ratio is that of the medians, as the tables show them; the quartiles are over the rounds, within which noise
    cancels.
    """
    low, high = np.quantile(np.divide(theirs, ours), (0.25, 0.75))
    ratio = float(np.median(theirs) / np.median(ours))
    return {"speedup": round(ratio, 3), "quartiles": [round(float(low), 3), round(float(high), 3)]}


def write(name: str, results: dict[str, Any], text: str) -> Path:
    """Write the results as JSON and the text as Markdown, and return the path of the text."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    path = RESULTS / f"{name}.md"
    path.write_text(text)
    return path
