"""Endpoints that submit jobs and show them."""

import hashlib
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from service.http.dependencies import ServicesDependency
from service.http.idempotency import IDEMPOTENT, IdempotencyKey
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES, invalid
from service.jobs.checks import check_job, unknown_job
from service.jobs.labels import MAX_LABELS, LabelFilter, parse_filter
from service.jobs.preview import JobPreview, preview
from service.jobs.repository import IdempotencyMismatchError, create_job, get_job, list_jobs
from service.jobs.schemas import (
    BESIDE_SPEC,
    HINGE_JOB,
    JobList,
    JobRequest,
    JobView,
    job_view,
)
from service.jobs.states import State
from workers.data.dataset import DatasetInfo
from workers.job.resolve import FieldProblem

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

JobBody = Annotated[JobRequest, Body(examples=[HINGE_JOB, {**HINGE_JOB, "labels": {"team": "vision"}, "priority": 10}])]


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie within the years 1 and 9999") from None


def _with_a_date(text: str) -> str:
    # A number would be taken for seconds since 1970.
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z")
    return text


Time = Annotated[AwareDatetime, BeforeValidator(_with_a_date), AfterValidator(_in_utc)]


LOCATION = {"headers": {"Location": {"description": "Path of the job.", "schema": {"type": "string"}}}}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_description="The job, queued",
    responses={
        201: LOCATION,
        200: LOCATION | {"model": JobView, "description": "The job that the key had made before"},
    },
)
def submit_job(
    spec: JobBody,
    response: Response,
    services: ServicesDependency,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Queue a training job.

    A spec that cannot run is refused here. The same `Idempotency-Key` with the same body gives the first job again.
    """
    dataset, resolved = check_job(spec, services)
    try:
        with services.database.writing() as session:
            job, created = create_job(
                session,
                spec=resolved.spec.model_dump(mode="json", exclude=set(BESIDE_SPEC)),
                labels=spec.labels,
                priority=spec.priority,
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


@router.post("/validate", dependencies=[IDEMPOTENT], response_description="What would run")
def validate_job(spec: JobBody, services: ServicesDependency) -> JobPreview:
    """Say what would run, and run nothing: the spec with every default, shapes, steps, memory, and what looks odd.

    A spec that submitting would refuse is refused here in the same words.
    """
    dataset, resolved = check_job(spec, services)
    return preview(resolved, DatasetInfo.from_json(dataset).features, services.settings)


@router.get("", response_description="A page of jobs")
def get_jobs(
    services: ServicesDependency,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    starting_after: Annotated[str | None, Query(description="Id of the last job of the page before.")] = None,
    state: State | None = None,
    experiment: str | None = None,
    sweep: Annotated[str | None, Query(description="Only members of the sweep with this id.")] = None,
    label: Annotated[
        list[LabelFilter] | None,
        Query(max_length=MAX_LABELS, description="Only jobs with this label, key:value; may be repeated."),
    ] = None,
    created_after: Annotated[Time | None, Query(description="Only jobs made at this time or later.")] = None,
    created_before: Annotated[Time | None, Query(description="Only jobs made before this time.")] = None,
) -> JobList:
    """Jobs, newest first."""
    with services.database.reading() as session:
        jobs, has_more = list_jobs(
            session,
            limit=limit,
            starting_after=starting_after,
            state=state,
            experiment=experiment,
            sweep_id=sweep,
            labels=map(parse_filter, label or ()),
            created_after=created_after,
            created_before=created_before,
        )
        return JobList(data=[job_view(job, services.settings.mlflow_link) for job in jobs], has_more=has_more)


@router.get("/{job_id}", response_description="The job")
def get_one_job(job_id: str, services: ServicesDependency) -> JobView:
    """One job."""
    with services.database.reading() as session:
        job = get_job(session, job_id)
        if job is None:
            raise unknown_job(job_id)
        return job_view(job, services.settings.mlflow_link)
