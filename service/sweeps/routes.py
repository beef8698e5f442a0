"""REST endpoints of sweeps."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.http.dependencies import ServicesDependency
from service.http.idempotency import IDEMPOTENT, SubmissionDependency, body_digest, created_responses
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES
from service.http.room import RoomsDependency, Stop
from service.jobs.actions import remove_files
from service.jobs.datasets.deletion import hold
from service.store.models import Sweep
from service.store.rows import find_or_404
from service.sweeps.comparison import compare
from service.sweeps.deletion import delete_sweep
from service.sweeps.members import members_of
from service.sweeps.repository import (
    best_values,
    cancel_sweep,
    create_sweep,
    jobs_of,
    list_sweeps,
    state_of,
    states_of,
)
from service.sweeps.schemas import ComparisonView, SweepList, SweepRequest, SweepView, sweep_mlflow_view
from service.sweeps.storing import MemberRow, member_rows
from workers.job.metrics import ValidationMetric

PATH = "/v1/sweeps"

router = APIRouter(prefix=PATH, tags=["sweeps"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_description="The sweep, its jobs queued",
    responses=created_responses(SweepView, "sweep", "The sweep that was created with this key before"),
)
async def submit_sweep(
    spec: Annotated[SweepRequest, Body()], request: Request, submission: SubmissionDependency, rooms: RoomsDependency
) -> SweepView:
    """Queue jobs that differ in some fields: all of them, or none if one of them cannot run.

    If too many jobs would be queued, none is either (429). The same `Idempotency-Key` with the same body returns the
    first sweep again.
    """
    services = submission.services

    def prepare(stop: Stop) -> tuple[list[MemberRow], list[dict[str, Any]], dict[str, Any], str]:
        members = members_of(spec, services, stop)
        datasets = [member["dataset"] for member in members]
        return member_rows(members), datasets, spec.model_dump(mode="json"), body_digest(spec)

    members, datasets, document, body_sha256 = await rooms.sweeps.run(request, prepare)

    def create(session: Session) -> tuple[SweepView, bool]:
        sweep, created = create_sweep(
            session,
            spec=document,
            members=members,
            body_sha256=body_sha256,
            idempotency_key=submission.key,
            max_queued_jobs=services.settings.max_queued_jobs,
        )
        if created:
            hold(session, datasets, "base.data.dataset")
        return _view(session, sweep, services.settings.mlflow_link), created

    return await run_in_threadpool(submission.submit, PATH, create)


@router.get("", response_model=SweepList, response_description="A page of sweeps")
async def get_sweeps(
    request: Request,
    services: ServicesDependency,
    rooms: RoomsDependency,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    starting_after: Annotated[
        str | None, Query(pattern=r"^sweep_[0-9a-f]{26}$", description="Id of the last sweep of the previous page.")
    ] = None,
) -> Response:
    """List sweeps, newest first."""
    link = services.settings.mlflow_link

    def page() -> SweepList:
        with services.database.reading() as session:
            sweeps, has_more = list_sweeps(session, limit=limit, starting_after=starting_after)
            states = states_of(session, [sweep.id for sweep in sweeps])
        return SweepList(data=[sweep_view(sweep, states[sweep.id], link) for sweep in sweeps], has_more=has_more)

    return await rooms.lists.respond(request, page)


@router.get("/{sweep_id}", response_description="The sweep")
def get_one_sweep(sweep_id: str, services: ServicesDependency) -> SweepView:
    """Get a sweep."""
    with services.database.reading() as session:
        return _view(session, find_or_404(session, Sweep, sweep_id), services.settings.mlflow_link)


@router.get("/{sweep_id}/comparison", response_model=ComparisonView, response_description="The comparison")
async def compare_members(
    sweep_id: str,
    request: Request,
    services: ServicesDependency,
    rooms: RoomsDependency,
    metric: Annotated[
        str | None,
        Query(
            description="Metric by whose mean, of the parameters that are kept, groups are ranked; default: that of "
            "the stopping rule, or else that of the members' task.",
            json_schema_extra={"examples": [*get_args(ValidationMetric)]},
        ),
    ] = None,
) -> Response:
    """Compare the members of a sweep, grouped by everything but the seed, and find the best groups."""

    def comparison() -> ComparisonView:
        with services.database.reading() as session:
            sweep = find_or_404(session, Sweep, sweep_id)
            jobs, bests = jobs_of(session, sweep_id), best_values(session, sweep_id)
        return compare(sweep, jobs, bests, metric, services.settings.mlflow_link)

    return await rooms.lists.respond(request, comparison)


@router.post(
    "/{sweep_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The sweep, its jobs being cancelled",
    responses={200: {"model": SweepView, "description": "There was no job to cancel"}},
)
def cancel_one_sweep(sweep_id: str, response: Response, services: ServicesDependency) -> SweepView:
    """Cancel all jobs of a sweep that have not ended. Cancelling again changes nothing."""
    with services.database.writing() as session:
        find_or_404(session, Sweep, sweep_id)
        changed = cancel_sweep(session, sweep_id)
    with services.database.reading() as session:
        view = _view(session, find_or_404(session, Sweep, sweep_id), services.settings.mlflow_link)
    if changed:
        services.on_change()
    else:
        response.status_code = HTTPStatus.OK
    return view


@router.delete("/{sweep_id}", status_code=HTTPStatus.NO_CONTENT, response_description="The sweep is deleted")
def remove_sweep(sweep_id: str, services: ServicesDependency) -> None:
    """Delete a sweep whose jobs have all ended, with its jobs and everything that belongs to them.

    Their runs in MLflow remain. Its `Idempotency-Key` can be used again.
    """
    with services.database.writing() as session:
        members = delete_sweep(session, sweep_id)
    for job_id in members:
        remove_files(services.settings.job_dir(job_id), job_id)
    remove_files(services.settings.sweep_dir(sweep_id), sweep_id)
    services.on_change()


def sweep_view(sweep: Sweep, jobs: Mapping[str, int], mlflow_link: str | None) -> SweepView:
    """A sweep's row as the API returns it, with the number of its jobs in each state.

    `mlflow_link` is the base of links to MLflow.
    """
    return SweepView(
        id=sweep.id,
        name=sweep.name,
        experiment=sweep.experiment,
        state=state_of(jobs),
        jobs=dict(sorted(jobs.items())),
        spec=sweep.spec,
        parallel=sweep.parallel,
        created_at=sweep.created_at,
        mlflow=sweep_mlflow_view(sweep, mlflow_link),
        mlflow_problem=sweep.mlflow_problem,
    )


def _view(session: Session, sweep: Sweep, mlflow_link: str | None) -> SweepView:
    session.flush()
    return sweep_view(sweep, states_of(session, [sweep.id])[sweep.id], mlflow_link)
