"""A metric that this file alone declares is everywhere where metrics are."""

from __future__ import annotations

import json
import subprocess
import sys

# In a process of its own: the registry is read when the service is imported.
SCRIPT = '''
import contextlib, io, json
from typing import ClassVar

import core.metrics.labels.accuracy as accuracy
from core.registry import registered

registered("metric")


class Unheard(accuracy.Accuracy):
    """The number of rows whose label is predicted."""

    type: ClassVar[str] = "unheard"

    def value(self, sums, rows):
        return float(sums[0])


from pydantic import TypeAdapter

from service.cli.comparison import print_comparison
from service.jobs.schemas import JobRequest
from service.jobs.states import State
from service.store.models import Job, Sweep
from service.sweeps.comparison import compare
from service.sweeps.schemas import ComparisonView, SweepRequest
from service.tracking.mlflow.experiment_view import experiment_view
from workers.job.metrics import JobMetrics

metrics = JobMetrics("classification", 10)
names = list(metrics.final)
jobs = [
    Job(
        id=f"job_{number}", name="n", spec={"loss": {"type": "hinge"}}, overrides={"optimizer.lr": number},
        state=State.SUCCEEDED, step=2, latest_metrics={"val/unheard": [2, 1.0]}, validation_metrics=names,
        kept={"step": 2, "epoch": 1, "metrics": {"val/unheard": 3.0 - number}},
    )
    for number in range(2)
]
comparison = compare(Sweep(id="sweep_1", spec={}), jobs, {}, "val/unheard")
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    print_comparison(json.loads(comparison.model_dump_json()))
view = experiment_view(names)
print(json.dumps({
    "series": metrics.step_series,
    "schemas": [json.dumps(TypeAdapter(view).json_schema()) for view in (JobRequest, SweepRequest, ComparisonView)],
    "best": comparison.best,
    "table": printed.getvalue(),
    "columns": view["selectedColumns"],
    "charts": [chart["metricKey"] for chart in view["compareRunCharts"]],
}))
'''


def test_a_metric_that_one_class_declares_is_shown_everywhere() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "train/unheard" in found["series"]
    assert all('"val/unheard"' in schema for schema in found["schemas"])
    assert found["best"] == 0, "the highest value of the kept parameters"
    assert "kept/val/unheard" in found["table"]
    assert "3.0000" in found["table"]
    assert "metrics.`kept/val/unheard`" in found["columns"]
    assert {"val/unheard", "train/unheard"} <= {*found["charts"]}
