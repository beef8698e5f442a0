"""Endpoints of sweeps."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from sqlalchemy.orm import Session

from service.http.dependencies import ServicesDependency
from service.http.idempotency import IDEMPOTENT, IdempotencyKey
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES, ProblemError, invalid
from service.jobs.repository import IdempotencyMismatchError
from service.store.models import Sweep
from service.sweeps.comparison import compare
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
from workers.job.resolve import FieldProblem
from workers.job.spec import ValidationMetric

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

LOCATION = {"headers": {"Location": {"description": "Path of the sweep.", "schema": {"type": "string"}}}}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_description="The sweep, its jobs queued",
    responses={
        201: LOCATION,
        200: LOCATION | {"model": SweepView, "description": "The sweep that the key had made before"},
    },
)
def submit_sweep(
    spec: Annotated[SweepRequest, Body()],
    response: Response,
    services: ServicesDependency,
    idempotency_key: IdempotencyKey = None,
) -> SweepView:
    """Queue jobs that differ in some fields: all of them, or none where one of them cannot run.

    The same `Idempotency-Key` with the same body gives the first sweep again.
    """
    members = members_of(spec, services)
    try:
        with services.database.writing() as session:
            sweep, created = create_sweep(
                session,
                spec=spec.model_dump(mode="json"),
                members=members,
                body_sha256=hashlib.sha256(spec.model_dump_json().encode()).hexdigest(),
                idempotency_key=idempotency_key,
            )
            view = _view(session, sweep, services.settings.mlflow_link)
    except IdempotencyMismatchError:
        message = "was used before with another body; use a new key for another sweep"
        raise invalid(FieldProblem("Idempotency-Key", message)) from None
    if created:
        services.on_change()
    else:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = f"/v1/sweeps/{view.id}"
    return view


@router.get("", response_description="A page of sweeps")
def get_sweeps(
    services: ServicesDependency,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    starting_after: Annotated[str | None, Query(description="Id of the last sweep of the page before.")] = None,
) -> SweepList:
    """Sweeps, newest first."""
    link = services.settings.mlflow_link
    with services.database.reading() as session:
        sweeps, has_more = list_sweeps(session, limit=limit, starting_after=starting_after)
        states = states_of(session, [sweep.id for sweep in sweeps])
        return SweepList(data=[sweep_view(sweep, states[sweep.id], link) for sweep in sweeps], has_more=has_more)


@router.get("/{sweep_id}", response_description="The sweep")
def get_one_sweep(sweep_id: str, services: ServicesDependency) -> SweepView:
    """One sweep."""
    with services.database.reading() as session:
        return _view(session, _find(session, sweep_id), services.settings.mlflow_link)


@router.get("/{sweep_id}/comparison", response_description="The comparison")
def compare_members(
    sweep_id: str,
    services: ServicesDependency,
    metric: Annotated[
        ValidationMetric,
        Query(description="By whose mean the best are found: of an accuracy the highest, else lowest."),
    ] = "val/accuracy",
) -> ComparisonView:
    """The members of a sweep side by side, those that differ in the seed only taken together, and which are best."""
    with services.database.reading() as session:
        sweep = _find(session, sweep_id)
        jobs, bests = jobs_of(session, sweep_id), best_values(session, sweep_id)
        return compare(sweep, jobs, bests, metric, services.settings.mlflow_link)


@router.post(
    "/{sweep_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The sweep, its jobs being cancelled",
    responses={200: {"model": SweepView, "description": "No job was left to cancel"}},
)
def cancel_one_sweep(sweep_id: str, response: Response, services: ServicesDependency) -> SweepView:
    """Cancel every job of a sweep that has not ended. Cancelling again changes nothing."""
    with services.database.writing() as session:
        sweep = _find(session, sweep_id)
        changed = cancel_sweep(session, sweep_id)
        view = _view(session, sweep, services.settings.mlflow_link)
    if changed:
        services.on_change()
    else:
        response.status_code = HTTPStatus.OK
    return view


def sweep_view(sweep: Sweep, jobs: Mapping[str, int], mlflow_link: str | None) -> SweepView:
    """A sweep's row as the API shows it, with how many of its jobs are in each state.

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
    )


def _view(session: Session, sweep: Sweep, mlflow_link: str | None) -> SweepView:
    session.flush()
    return sweep_view(sweep, states_of(session, [sweep.id])[sweep.id], mlflow_link)


def _find(session: Session, sweep_id: str) -> Sweep:
    sweep = session.get(Sweep, sweep_id)
    if sweep is None:
        message = f"There is no sweep {sweep_id!r}; GET /v1/sweeps lists the sweeps."
        raise ProblemError(HTTPStatus.NOT_FOUND, message)
    return sweep
