"""A small trained classifier, its checkpoint, and other processes that use its MLflow model."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from core import ParameterLayout, Plan, build_classifier, initialize
from tests.workers.helpers import job as make_job
from workers.job.objects import layers_of
from workers.job.spec import JobSpec
from workers.record.checkpoint import BestSoFar, Origin, Snapshot, computation_sha256, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

JOB = "job-1"
CLASSES = ("ant", "bee", "cat")
FEATURES = 4
LAYERS = [
    {"type": "linear", "units": 16},
    {"type": "batch_norm"},
    {"type": "relu"},
    {"type": "dropout"},
    {"type": "linear", "units": 3},
]
SPEC = JobSpec.model_validate(make_job(**{"model.layers": LAYERS, "model.inputs": FEATURES}))
GRAPH = build_classifier(layers_of(SPEC), FEATURES)
LAYOUT = ParameterLayout(GRAPH.parameters())
COMPUTATION = computation_sha256(SPEC.model_dump(mode="json"), "0" * 64)
MEAN, DEVIATION = np.array([1, 2, 3, 4], np.float32), np.array([0.5, 1, 3, 7], np.float32)
LAST, BEST = initialize(LAYOUT, 1), initialize(LAYOUT, 2)

# A process that has nothing of this project on its path but what the artifact brings.
LOAD = """
import sys
import warnings
import numpy as np
warnings.simplefilter("ignore")
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(np.load(sys.argv[2]))
import core
assert "code.zip" in core.__file__, core.__file__
np.savez(sys.argv[3], **answer, example=model.input_example, signed=model.metadata.signature is not None)
"""


def checkpoint_in(directory: Path, *, job: str = JOB, best: bool = True, standardized: bool = True) -> Path:
    inputs = {"mean": MEAN, "deviation": DEVIATION} if standardized else {}
    origin = Origin(job, 1, SPEC.model_dump(mode="json"), COMPUTATION, inputs, {})
    kept = BestSoFar("val/loss", 0.5, 4, BEST) if best else None
    write_checkpoint(directory, origin, LAYOUT, Snapshot(2, 6, LAST, {}, kept, None))
    return directory / "checkpoints" / f"{6:012d}"


def rows(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(count).normal(3, 2, (count, FEATURES)).astype(np.float32)


def scores_of(features: np.ndarray[Any, Any], parameters: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The engine's own, in evaluation."""
    plan = Plan(GRAPH, ["scores"], batch=len(features), layout=LAYOUT, parameters=parameters, backward=False)
    plan.inputs["features"][:] = (features - MEAN) / DEVIATION
    plan.forward()
    return plan.value("scores").copy()


def python(*arguments: object, cwd: Path, **environment: str) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
