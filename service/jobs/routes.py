"""Endpoints that submit jobs and show them."""

import csv
import hashlib
import io
import math
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response

from service.datasets.repository import get_dataset, info_of, list_datasets, snapshot_of
from service.dependencies import Services, ServicesDependency
from service.field_errors import unknown
from service.jobs.checks import check_cluster_fits, unknown_job
from service.jobs.events import list_events
from service.jobs.metrics import Series, read_series
from service.jobs.repository import IdempotencyMismatchError, create_job, get_job, list_jobs
from service.jobs.schemas import (
    HINGE_JOB,
    EventList,
    EventView,
    JobList,
    JobView,
    MetricsView,
    SeriesView,
    job_view,
)
from service.jobs.states import State
from service.json_body import StrictJsonRoute
from service.problems import PROBLEM_RESPONSES, invalid
from workers.resolve import FieldProblem, resolve
from workers.spec import JobSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

# SQL integers have 64 bits.
Step = Annotated[int | None, Query(ge=0, lt=2**63)]


@router.post("", status_code=HTTPStatus.CREATED, responses={200: {"model": JobView, "description": "A replay"}})
def submit_job(
    spec: Annotated[JobSpec, Body(examples=[HINGE_JOB])],
    response: Response,
    services: ServicesDependency,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, description="Makes a repeated request safe.")
    ] = None,
) -> JobView:
    """Queue a training job.

    A spec that cannot run is refused here. The same `Idempotency-Key` with the same body gives the first job again.
    """
    dataset = _find_dataset(spec.data.dataset, services)
    resolved = resolve(spec, info_of(dataset))
    check_cluster_fits(spec.resources, services.settings)
    try:
        with services.database.writing() as session:
            job, created = create_job(
                session,
                spec=resolved.spec.model_dump(mode="json"),
                dataset=dataset,
                total_steps=resolved.total_steps,
                body_sha256=hashlib.sha256(spec.model_dump_json().encode()).hexdigest(),
                idempotency_key=idempotency_key,
            )
            view = job_view(job, services.settings.mlflow_link)
    except IdempotencyMismatchError:
        message = "was used before with another body; use a new key for another job"
        raise invalid(FieldProblem("Idempotency-Key", message)) from None
    if created:
        services.on_change()
    else:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = f"/v1/jobs/{view.id}"
    return view


@router.get("")
def get_jobs(
    services: ServicesDependency,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    starting_after: Annotated[str | None, Query(description="Id of the last job of the page before.")] = None,
    state: State | None = None,
    experiment: str | None = None,
) -> JobList:
    """Jobs, newest first."""
    with services.database.reading() as session:
        jobs, has_more = list_jobs(
            session, limit=limit, starting_after=starting_after, state=state, experiment=experiment
        )
        return JobList(data=[job_view(job, services.settings.mlflow_link) for job in jobs], has_more=has_more)


@router.get("/{job_id}")
def get_one_job(job_id: str, services: ServicesDependency) -> JobView:
    """One job."""
    with services.database.reading() as session:
        job = get_job(session, job_id)
        if job is None:
            raise unknown_job(job_id)
        return job_view(job, services.settings.mlflow_link)


@router.get(
    "/{job_id}/metrics",
    response_model=MetricsView,
    responses={200: {"content": {"text/csv": {"example": "step,name,value\n1,train/loss,2.302585092994046\n"}}}},
)
def get_metrics(
    job_id: str,
    services: ServicesDependency,
    *,
    name: Annotated[list[str] | None, Query(description="Only these series; may be repeated.")] = None,
    from_step: Step = None,
    to_step: Step = None,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """Points of a job, as columns; with `Accept: text/csv`, as rows.

    Of a job of more than 10,000 steps, the metrics of steps are those of the first, the last, and every n-th one.
    """
    with services.database.reading() as session:
        if get_job(session, job_id) is None:
            raise unknown_job(job_id)
        series = read_series(session, job_id, names=name or (), from_step=from_step, to_step=to_step)
    if "text/csv" in accept:
        return Response(_as_csv(series), media_type="text/csv", headers={"Vary": "Accept"})
    view = MetricsView(
        data={
            name: SeriesView(steps=steps, values=[value if math.isfinite(value) else None for value in values])
            for name, (steps, values) in series.items()
        }
    )
    return Response(view.model_dump_json(), media_type="application/json", headers={"Vary": "Accept"})


@router.get("/{job_id}/events")
def get_events(
    job_id: str,
    services: ServicesDependency,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    starting_after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="Id of the last event of the page before.")
    ] = None,
) -> EventList:
    """What happened to a job, oldest first: every move from state to state, every attempt, every restart."""
    with services.database.reading() as session:
        if get_job(session, job_id) is None:
            raise unknown_job(job_id)
        events, has_more = list_events(session, job_id, limit=limit, starting_after=starting_after)
        return EventList(data=[EventView.model_validate(event) for event in events], has_more=has_more)


def _find_dataset(name: str, services: Services) -> dict[str, Any]:
    with services.database.reading() as session:
        dataset = get_dataset(session, name)
        if dataset is None:
            known = (entry.name for entry in list_datasets(session))
            raise invalid(FieldProblem("data.dataset", unknown(name, known, "dataset")))
        return snapshot_of(dataset)


def _as_csv(series: dict[str, Series]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("step", "name", "value"))
    for name, (steps, values) in series.items():
        rows.writerows((step, name, repr(value)) for step, value in zip(steps, values, strict=True))
    return text.getvalue()
