"""Endpoints that change what is to become of a job."""

import logging
import shutil
from http import HTTPStatus

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from service.http.dependencies import Services, ServicesDependency
from service.http.idempotency import IDEMPOTENT
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES, ProblemError
from service.jobs.checks import check_cluster_fits, unknown_job
from service.jobs.repository import get_job, lock_job
from service.jobs.requests import NotPossibleError, change_resources, delete_job, make_request
from service.jobs.schemas import JobChange, JobView, job_view
from service.jobs.states import Request, State
from service.store.models import Job
from workers.data.dataset import DatasetInfo
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

log = logging.getLogger(__name__)

# States from which the scheduler, or the job's workers, take the job to where it was asked to go.
ON_ITS_WAY = {State.CANCELLING, State.PAUSING, State.QUEUED}


@router.post(
    "/{job_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The job, being cancelled",
    responses={200: {"model": JobView, "description": "Cancelled already, or cancelled at once"}},
)
def cancel_job(job_id: str, response: Response, services: ServicesDependency) -> JobView:
    """Cancel a job: one that is queued or paused at once, one that runs at its next step.

    Cancelling again changes nothing.
    """
    return _make_request(job_id, Request.CANCEL, response, services)


@router.post(
    "/{job_id}/pause",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The job, being paused",
    responses={200: {"model": JobView, "description": "Paused already, or paused at once"}},
)
def pause_job(job_id: str, response: Response, services: ServicesDependency) -> JobView:
    """Pause a job: one that is queued at once, one that runs at its next step, with a checkpoint.

    Its CPUs are free then. Pausing again changes nothing.
    """
    return _make_request(job_id, Request.PAUSE, response, services)


@router.post(
    "/{job_id}/resume",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The job, queued again",
    responses={200: {"model": JobView, "description": "It is not paused"}},
)
def resume_job(job_id: str, response: Response, services: ServicesDependency) -> JobView:
    """Put a paused job back into the queue; it goes on from its last checkpoint, to the same result.

    Resuming one that is queued or runs changes nothing. One that is pausing can be resumed once it is paused.
    """
    return _make_request(job_id, Request.RESUME, response, services)


@router.delete("/{job_id}", status_code=HTTPStatus.NO_CONTENT, response_description="It is gone")
def remove_job(job_id: str, services: ServicesDependency) -> None:
    """Delete an ended job: its metrics, events, checkpoints and results. One that has not ended is refused.

    Its run in MLflow stays as it is. Its `Idempotency-Key` is free again.
    """
    try:
        with services.database.writing() as session:
            delete_job(session, job_id)
    except LookupError:
        raise unknown_job(job_id) from None
    except NotPossibleError as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
    # Only once the rows are gone for certain: a job that is still there wants its checkpoints.
    directory = services.settings.job_dir(job_id)
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass
    except OSError:
        log.exception("job %s is deleted, but its directory %s could not be removed", job_id, directory)


@router.patch("/{job_id}", response_description="The job as changed")
def change_job(job_id: str, change: JobChange, services: ServicesDependency) -> JobView:
    """Change the number of a job's workers or of their CPUs, also while it runs. No result depends on it."""
    wanted = change.resources.model_dump(exclude_none=True)
    try:
        with services.database.writing() as session:
            job = lock_job(session, job_id)
            if job is None:
                raise unknown_job(job_id)
            spec = JobSpec.model_validate({**job.spec, "resources": {**job.spec["resources"], **wanted}})
            resources = resolve(spec, DatasetInfo.from_json(job.dataset), services.settings.limits).spec.resources
            check_cluster_fits(resources, services.settings)
            changed = change_resources(session, job_id, resources)
            view = job_view(_find(session, job_id), services.settings.mlflow_link)
    except NotPossibleError as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
    if changed:
        services.on_change()
    return view


def _make_request(job_id: str, request: Request, response: Response, services: Services) -> JobView:
    try:
        with services.database.writing() as session:
            _find(session, job_id)
            changed = make_request(session, job_id, request)
            view = job_view(_find(session, job_id), services.settings.mlflow_link)
    except NotPossibleError as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
    if changed:
        services.on_change()
    if not changed or view.state not in ON_ITS_WAY:
        response.status_code = HTTPStatus.OK
    return view


def _find(session: Session, job_id: str) -> Job:
    job = get_job(session, job_id)
    if job is None:
        raise unknown_job(job_id)
    return job
