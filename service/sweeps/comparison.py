"""Comparison of the members of a sweep, and of groups of members that differ only in the seed."""

from __future__ import annotations

import json
import math
from statistics import mean, stdev
from typing import TYPE_CHECKING, get_args

from core.names import suggest
from service.errors import InvalidError
from service.jobs.figures import all_figures, kept
from service.jobs.schemas import mlflow_view
from service.jobs.states import State
from service.sweeps.expansion import SEED
from service.sweeps.schemas import ComparisonView, GroupView, MemberView, StatisticView, sweep_mlflow_view
from workers.job.checks.problems import FieldProblem
from workers.job.metrics import ValidationMetric
from workers.record.selection import is_better

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.store.models import Job, Sweep

# R² is undefined for a single row and for equal targets. The error has the same order, and a value for all rows.
WHERE_UNDEFINED: dict[str, ValidationMetric] = {"val/r2": "val/root_mean_squared_error"}


def compare(
    sweep: Sweep,
    jobs: Sequence[Job],
    bests: Mapping[str, Mapping[str, float]],
    metric: ValidationMetric | None = None,
    mlflow_link: str | None = None,
) -> ComparisonView:
    """A sweep's members and groups, and which groups are best by the mean of `metric` of the kept parameters.

    Among equal groups the first is best. The default metric is that of the sweep's stopping rule, or else that by which
    the members' task is ranked; the root mean squared error if R² is undefined for all members. `bests` has the best
    values of the validation metrics, by job; `mlflow_link` is the base of links to MLflow. Raises InvalidError for a
    metric that a member does not have.
    """
    metrics = _shared_metrics(jobs)
    if metric is None:
        metric = (sweep.spec.get("stopping") or {}).get("metric") or _usual(jobs, metrics)
    elif metric not in (known := metrics if jobs else get_args(ValidationMetric)):
        raise InvalidError(FieldProblem("metric", _refusal(metric, known)))
    by_overrides: dict[str, list[Job]] = {}
    for job in jobs:
        by_overrides.setdefault(json.dumps(_without_seed(job), sort_keys=True), []).append(job)
    groups = [_group(members) for members in by_overrides.values()]
    return ComparisonView(
        id=sweep.id,
        mlflow=sweep_mlflow_view(sweep, mlflow_link),
        metric=metric,
        metrics=metrics,
        members=[_member(job, bests.get(job.id, {}), mlflow_link) for job in jobs],
        groups=groups,
        left_out=sum(group.left_out for group in groups),
        best=_best(groups, metric),
        best_per_loss=_best_per_loss(groups, metric),
    )


def _shared_metrics(jobs: Sequence[Job]) -> list[str]:
    first, *others = [job.validation_metrics for job in jobs] or [[]]
    return [name for name in first if all(name in metrics for metrics in others)]


def _usual(jobs: Sequence[Job], metrics: Sequence[str]) -> str:
    """The metric by which the jobs' task is ranked, or another if it is undefined for all that have succeeded."""
    usual = next(iter(metrics), "val/loss")
    values = [job.kept["metrics"].get(usual) for job in jobs if job.state == State.SUCCEEDED and job.kept is not None]
    defined = any(value is not None for value in values)
    return usual if defined or not values else WHERE_UNDEFINED.get(usual, usual)


def _refusal(metric: str, metrics: Sequence[str]) -> str:
    if not metrics:
        return f"is {metric!r}, but there is no metric that all members have: some have no validation rows"
    why = "not all members have" if metric in get_args(ValidationMetric) else "is no metric of validation rows"
    return f"is {metric!r}, which {why}: must be one of {', '.join(metrics)}{suggest(metric, metrics)}"


def _without_seed(job: Job) -> dict[str, object]:
    return {field: value for field, value in (job.overrides or {}).items() if field != SEED}


def _member(job: Job, best: Mapping[str, float], mlflow_link: str | None) -> MemberView:
    began, ended = job.started_at, job.finished_at
    return MemberView(
        id=job.id,
        name=job.name,
        overrides=job.overrides or {},
        state=State(job.state),
        reason=job.reason,
        metrics=all_figures(job),
        best=dict(best),
        steps=job.step,
        seconds=(ended - began).total_seconds() if began and ended else None,
        params_sha256=job.params_sha256,
        mlflow=mlflow_view(job, mlflow_link),
    )


def _group(jobs: Sequence[Job]) -> GroupView:
    succeeded = [job for job in jobs if job.state == State.SUCCEEDED]
    figures = [all_figures(job) for job in succeeded]
    names = sorted({name for values in figures for name in values})
    return GroupView(
        overrides=_without_seed(jobs[0]),
        loss=jobs[0].spec["loss"]["type"],
        jobs=[job.id for job in jobs],
        n=len(succeeded),
        left_out=len(jobs) - len(succeeded),
        metrics={name: _statistic(values.get(name) for values in figures) for name in names},
    )


def _statistic(values: Iterable[float | None]) -> StatisticView:
    finite = [value for value in values if value is not None]
    return StatisticView(
        # `mean` uses fractions, so that neither large values nor their order matter.
        mean=mean(finite) if finite else None,
        std=stdev(finite) if len(finite) > 1 else None,
        n=len(finite),
    )


def _best(groups: Iterable[GroupView], metric: ValidationMetric, loss: str | None = None) -> int | None:
    best, best_mean = None, None
    for position, group in enumerate(groups):
        ranked = group.metrics.get(kept(metric)) if loss in {None, group.loss} else None
        value = None if ranked is None else ranked.mean
        if is_better(metric, math.nan if value is None else value, best_mean):
            best, best_mean = position, value
    return best


def _best_per_loss(groups: Sequence[GroupView], metric: ValidationMetric) -> dict[str, int]:
    found = {loss: _best(groups, metric, loss) for loss in dict.fromkeys(group.loss for group in groups)}
    return {loss: position for loss, position in found.items() if position is not None}
