"""Shared views in MLflow of the runs of an experiment or sweep: columns, charts, order and grouping.

A view is JSON in a tag of the experiment, in the format of MLflow 3's web pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from service.jobs.figures import kept
from workers.job.metrics import HIGHER_IS_BETTER, METRICS, EpochMetric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TAG = "mlflow.sharedViewState."  # prefix of the name of the view, which links refer to
EXPERIMENT = "gradfleet"
PARENT = "mlflow.parentRunId"
PARAMS = ("loss.type", "optimizer.lr", "regularization.l2", "training.seed")


def experiment_view(metrics: Sequence[str]) -> dict[str, Any]:
    """Return the view of all runs of an experiment. MLflow nests the runs of a sweep under its own.

    `metrics` are those of its jobs on the validation rows, the most important one first.
    """
    return _view(metrics, PARAMS)


def sweep_view(run_id: str, fields: Iterable[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Return the view of the members of the sweep with this run, grouped by the params `fields`, best first.

    `metrics` are those of the members on the validation rows; the first ranks them.
    """
    fields = list(fields)
    keys = [{"mode": "param", "groupByData": field} for field in fields]
    ranked = metrics[0] if metrics else "val/loss"
    return _view(metrics, dict.fromkeys((*PARAMS, *fields))) | {
        "searchFilter": f"tags.`{PARENT}` = '{run_id}'",
        "orderByKey": _column(kept(ranked)),
        "orderByAsc": ranked not in HIGHER_IS_BETTER,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys} if keys else None,
    }


def _view(metrics: Sequence[str], params: Iterable[str]) -> dict[str, Any]:
    last = metrics[:1]  # beside its value of the kept parameters
    columns = [*map(kept, metrics[:1]), *last, *map(kept, metrics[1:]), "train/loss"]
    sections = _sections(metrics)
    return {
        "selectedColumns": [*map(_column, columns), *(f"params.`{name}`" for name in params)],
        "runsHiddenMode": "SHOW_ALL",  # the default is only the first ten runs
        "isAccordionReordered": True,  # in this order, not alphabetically
        "compareRunSections": [_generated(name) | {"name": name, "display": True} for name in sections],
        "compareRunCharts": [_chart(section, name) for section, names in sections.items() for name in names],
    }


def _sections(metrics: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The charts, by section: of the series that such jobs have. Other metrics follow, in MLflow's order."""
    of_steps = (name for name, metric in METRICS.items() if getattr(metric, "in_training", False))
    return {
        "val": [name for name in metrics if name in get_args(EpochMetric)],
        "train": [
            "train/loss",
            *(f"train/{name}" for name in of_steps if f"val/{name}" in metrics),
            "train/active_fraction",
        ],
    }


def _column(metric: str) -> str:
    return f"metrics.`{metric}`"


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
