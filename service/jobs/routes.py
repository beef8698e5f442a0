"""REST endpoints of jobs."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.http.dependencies import Services, ServicesDependency
from service.http.idempotency import IDEMPOTENT, SubmissionDependency, body_digest, created_responses
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES
from service.http.room import RoomsDependency, Stop
from service.jobs.actions import apply_action, change_resources, delete_job, remove_files
from service.jobs.certificates import routes as certificates
from service.jobs.checks import check_job, checked_resources
from service.jobs.datasets.deletion import hold, was_deleted
from service.jobs.live import routes as events
from service.jobs.new_job import new_job, spec_json
from service.jobs.preview import JobPreview, preview
from service.jobs.repository import NewJob, check_room, create_job, list_jobs
from service.jobs.schemas import HINGE_JOB, JobChange, JobFilter, JobList, JobRequest, JobView, job_view
from service.jobs.series import routes as metrics
from service.jobs.states import Action, State
from service.store.models import Job
from service.store.rows import find_or_404
from workers.job.spec import ResourcesSpec

PATH = "/v1/jobs"

router = APIRouter(prefix=PATH, tags=["jobs"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

JobBody = Annotated[JobRequest, Body(examples=[HINGE_JOB, {**HINGE_JOB, "labels": {"team": "vision"}, "priority": 10}])]

# States from which the scheduler or the workers complete an action.
IN_PROGRESS = {State.CANCELLING, State.PAUSING, State.QUEUED}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_description="The job, queued",
    responses=created_responses(JobView, "job", "The job that was created with this key before"),
)
async def submit_job(
    spec: JobBody, request: Request, submission: SubmissionDependency, rooms: RoomsDependency
) -> JobView:
    """Queue a training job.

    A spec that cannot run is rejected, and so is any while too many jobs are queued (429). The same `Idempotency-Key`
    with the same body returns the first job again.
    """
    services = submission.services

    def prepare(stop: Stop) -> NewJob:
        dataset, resolved = check_job(spec, services, stop)
        return new_job(spec, resolved, spec=spec_json(resolved), dataset=dataset, body_sha256=body_digest(spec))

    new = await rooms.checks.run(request, prepare)

    def create(session: Session) -> tuple[JobView, bool]:
        job, created = create_job(session, **new, idempotency_key=submission.key)
        if created:
            hold(session, [new["dataset"]])
            check_room(session, services.settings.max_queued_jobs)
        return job_view(job, services.settings.mlflow_link), created

    return await run_in_threadpool(submission.submit, PATH, create)


@router.post("/validate", dependencies=[IDEMPOTENT], response_model=JobPreview, response_description="What would run")
async def validate_job(
    spec: JobBody, request: Request, services: ServicesDependency, rooms: RoomsDependency
) -> Response:
    """Describe what would run, without running it: the spec with all defaults, shapes, steps, memory and warnings.

    A spec that cannot run is rejected with the same errors as when it is submitted.
    """

    def described(stop: Stop) -> bytes:
        dataset, resolved = check_job(spec, services, stop)
        return preview(resolved, dataset, services.settings).model_dump_json().encode()

    return Response(await rooms.checks.run(request, described), media_type="application/json")


@router.get("", response_model=JobList, response_description="A page of jobs")
async def get_jobs(
    request: Request, services: ServicesDependency, rooms: RoomsDependency, query: Annotated[JobFilter, Query()]
) -> Response:
    """List jobs, newest first."""

    def page() -> JobList:
        with services.database.reading() as session:
            jobs, has_more = list_jobs(session, query)
        return JobList(data=[job_view(job, services.settings.mlflow_link) for job in jobs], has_more=has_more)

    return await rooms.lists.respond(request, page)


@router.get("/{job_id}", response_description="The job")
def get_one_job(job_id: str, services: ServicesDependency) -> JobView:
    """Get a job."""
    with services.database.reading() as session:
        view = job_view(find_or_404(session, Job, job_id), services.settings.mlflow_link, details=True)
        if view.dataset is not None:
            view.dataset.deleted = was_deleted(session, view.dataset)
        return view


@router.post(
    "/{job_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The job, being cancelled",
    responses={200: {"model": JobView, "description": "The job is cancelled"}},
)
def cancel_job(job_id: str, response: Response, services: ServicesDependency) -> JobView:
    """Cancel a job: a queued or paused one immediately, a running one at its next step.

    Cancelling again changes nothing.
    """
    return _apply(job_id, Action.CANCEL, response, services)


@router.post(
    "/{job_id}/pause",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The job, being paused",
    responses={200: {"model": JobView, "description": "The job is paused"}},
)
def pause_job(job_id: str, response: Response, services: ServicesDependency) -> JobView:
    """Pause a job: a queued one immediately, a running one at its next step, with a checkpoint.

    A paused job uses no CPUs. Pausing again changes nothing.
    """
    return _apply(job_id, Action.PAUSE, response, services)


@router.post(
    "/{job_id}/resume",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[IDEMPOTENT],
    response_description="The job, queued again",
    responses={200: {"model": JobView, "description": "The job is not paused"}},
)
def resume_job(job_id: str, response: Response, services: ServicesDependency) -> JobView:
    """Queue a paused job again; it continues from its last checkpoint, with the same result.

    Resuming a queued or running job changes nothing. A job that is pausing can be resumed once it is paused.
    """
    return _apply(job_id, Action.RESUME, response, services)


@router.delete("/{job_id}", status_code=HTTPStatus.NO_CONTENT, response_description="The job is deleted")
def remove_job(job_id: str, services: ServicesDependency) -> None:
    """Delete a job that has ended, with its metrics, events, checkpoints and results.

    Its run in MLflow remains. Its `Idempotency-Key` can be used again.
    """
    with services.database.writing() as session:
        delete_job(session, job_id)
    remove_files(services.settings.job_dir(job_id), job_id)


@router.patch("/{job_id}", response_description="The changed job")
async def change_job(
    job_id: str, change: JobChange, request: Request, services: ServicesDependency, rooms: RoomsDependency
) -> JobView:
    """Change the number of workers or of CPUs per worker, also while the job runs. The result does not change."""

    def check(_: Stop) -> tuple[Job, ResourcesSpec]:
        with services.database.reading() as session:
            job = find_or_404(session, Job, job_id)
        return job, checked_resources(job, change.resources, services.settings)

    def apply(job: Job, resources: ResourcesSpec) -> tuple[bool | None, JobView]:
        changed = None
        with services.database.writing() as session:
            if find_or_404(session, Job, job_id, lock=True).spec["resources"] == job.spec["resources"]:
                changed = change_resources(session, job_id, resources)
            view = job_view(find_or_404(session, Job, job_id), services.settings.mlflow_link)
        if changed:
            services.on_change()
        return changed, view

    changed = None
    while changed is None:  # once, unless another request changes them at the same time
        changed, view = await run_in_threadpool(apply, *await rooms.checks.run(request, check))
    return view


def _apply(job_id: str, action: Action, response: Response, services: Services) -> JobView:
    with services.database.writing() as session:
        changed = apply_action(session, job_id, action)
        view = job_view(find_or_404(session, Job, job_id), services.settings.mlflow_link)
    if changed:
        services.on_change()
    if not changed or view.state not in IN_PROGRESS:
        response.status_code = HTTPStatus.OK
    return view


router.include_router(metrics.router)
router.include_router(certificates.of_jobs)
router.include_router(events.router)
