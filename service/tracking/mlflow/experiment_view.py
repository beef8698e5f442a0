"""How MLflow's pages show the runs of an experiment, and those of a sweep: which columns, which charts first.

The form is that in which MLflow 3's pages keep a view that is shared: JSON in a tag of the experiment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

TAG = "mlflow.sharedViewState."  # and the view's name, by which a link opens it
EXPERIMENT = "gradfleet"
PARENT = "mlflow.parentRunId"
BEST_FIRST = "metrics.`val/accuracy`"

METRICS = ("val/accuracy", "val/loss", "val/hinge", "val/softmax", "train/loss")
PARAMS = ("loss.type", "optimizer.lr", "regularization.l2", "training.seed")
# The others come after them, in MLflow's own order.
SECTIONS = {"val": METRICS[:4], "train": ("train/loss", "train/accuracy", "train/active_fraction")}


def experiment_view() -> dict[str, Any]:
    """All runs of an experiment; those of a sweep stand below its own."""
    return _view(PARAMS)


def sweep_view(run_id: str, fields: Iterable[str]) -> dict[str, Any]:
    """The members of the sweep whose run it is, taken together where they differ in none of these params."""
    fields = list(fields)
    keys = [{"mode": "param", "groupByData": field} for field in fields]
    return _view(dict.fromkeys((*PARAMS, *fields))) | {
        "searchFilter": f"tags.`{PARENT}` = '{run_id}'",
        "orderByKey": BEST_FIRST,
        "orderByAsc": False,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys} if keys else None,
    }


def _view(params: Iterable[str]) -> dict[str, Any]:
    return {
        "selectedColumns": [*(f"metrics.`{name}`" for name in METRICS), *(f"params.`{name}`" for name in params)],
        "runsHiddenMode": "SHOW_ALL",  # MLflow draws the first ten runs only
        "isAccordionReordered": True,  # as it stands here, not by the alphabet
        "compareRunSections": [_generated(name) | {"name": name, "display": True} for name in SECTIONS],
        "compareRunCharts": [_chart(section, name) for section, names in SECTIONS.items() for name in names],
    }


def _chart(section: str, metric: str) -> dict[str, Any]:
    return _generated(metric) | {
        "type": "LINE",
        "metricSectionId": section,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "yAxisKey": "metric",
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "range": {},
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _generated(uuid: str) -> dict[str, Any]:
    return {"uuid": uuid, "isGenerated": True, "deleted": False}
