"""Shared views in MLflow of the runs of an experiment or sweep: columns, charts, order and grouping.

A view is JSON in a tag of the experiment, in the format of MLflow 3's web pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

TAG = "mlflow.sharedViewState."  # prefix of the name of the view, which links refer to
EXPERIMENT = "gradfleet"
PARENT = "mlflow.parentRunId"
BEST_FIRST = "metrics.`val/accuracy`"

METRICS = ("val/accuracy", "val/loss", "val/hinge", "val/softmax", "train/loss")
PARAMS = ("loss.type", "optimizer.lr", "regularization.l2", "training.seed")
# Other metrics follow, in MLflow's order.
SECTIONS = {"val": METRICS[:4], "train": ("train/loss", "train/accuracy", "train/active_fraction")}


def experiment_view() -> dict[str, Any]:
    """Return the view of all runs of an experiment. MLflow nests the runs of a sweep under its own."""
    return _view(PARAMS)


def sweep_view(run_id: str, fields: Iterable[str]) -> dict[str, Any]:
    """Return the view of the members of the sweep with this run, grouped by the params `fields`."""
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
        "runsHiddenMode": "SHOW_ALL",  # the default is only the first ten runs
        "isAccordionReordered": True,  # in this order, not alphabetically
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
