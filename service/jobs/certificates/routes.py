"""REST endpoints of certificates."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.errors import InvalidError
from service.http.dependencies import ServicesDependency
from service.http.idempotency import Submission, SubmissionDependency, body_digest, created_responses
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES
from service.http.room import Rooms, RoomsDependency, Stop
from service.jobs.certificates.document import Certificate
from service.jobs.certificates.issue import issue
from service.jobs.certificates.sampling import MOST_SEEDS, draw
from service.jobs.certificates.verification import begin, request_of
from service.jobs.certificates.views import SampleView
from service.jobs.checks import check_job
from service.jobs.datasets.deletion import hold
from service.jobs.new_job import new_job, spec_json
from service.jobs.repository import NewJob, check_room, create_job
from service.jobs.schemas import JobView, job_view
from service.store.models import Job
from service.store.rows import find_or_404
from workers.job.checks.problems import FieldProblem

JOBS = "/v1/jobs"

of_jobs = APIRouter(route_class=StrictJsonRoute)  # a part of the router of jobs
router = APIRouter(
    prefix="/v1/certificates", tags=["certificates"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES
)


class VerificationQuery(BaseModel):
    """Query parameters of a verification: where it runs, on which its result does not depend, and how much of it."""

    workers: int = Field(1, ge=1, le=1024, description="Worker processes.")
    cpus_per_worker: int = Field(1, ge=1, le=1024, description="Threads of each worker.")
    sample: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Replay only this many intervals between the certificate's checkpoints, chosen at random. "
        "Default: run the whole job.",
    )
    seed: int | None = Field(
        None, ge=0, lt=MOST_SEEDS, description="Choose the intervals that an earlier sample with this seed had."
    )


CREATED = created_responses(JobView, "job", "The job that was created with this key before")
Asked = Annotated[VerificationQuery, Query()]


@of_jobs.get("/{job_id}/certificate", response_model=Certificate, response_description="The certificate")
async def get_certificate(
    job_id: str, request: Request, services: ServicesDependency, rooms: RoomsDependency
) -> Response:
    """Get the certificate of a job that has succeeded: digests of its spec, data, parameters and metrics, signed."""
    return await rooms.lists.respond(request, lambda: issue(services.database, services.settings, job_id))


@of_jobs.post(
    "/{job_id}/verify",
    status_code=HTTPStatus.CREATED,
    response_description="The job that verifies it, queued",
    responses=CREATED,
)
async def verify_job(
    job_id: str, request: Request, submission: SubmissionDependency, rooms: RoomsDependency, asked: Asked
) -> JobView:
    """Verify the certificate of a job by running it again, as `verify_certificate` does."""
    services = submission.services
    certificate = await rooms.lists.run(request, lambda _: issue(services.database, services.settings, job_id))
    return await _verify(certificate, request, submission, rooms, asked)


@router.post(
    "/verify",
    status_code=HTTPStatus.CREATED,
    response_description="The job that verifies it, queued",
    responses=CREATED,
)
async def verify_certificate(
    certificate: Certificate, request: Request, submission: SubmissionDependency, rooms: RoomsDependency, asked: Asked
) -> JobView:
    """Verify a certificate of any service by running its job again, on the dataset here that has the same content.

    The answer is a new job, whose `verification` says what was found so far.
    """
    return await _verify(certificate, request, submission, rooms, asked)


class _Verification(BaseModel):
    """What a repeated request has to have in common with the first one."""

    certificate: Certificate
    sample: int | None
    seed: int | None


async def _verify(
    certificate: Certificate, http_request: Request, submission: Submission, rooms: Rooms, asked: VerificationQuery
) -> JobView:
    services = submission.services
    if asked.seed is not None and asked.sample is None:
        raise InvalidError(FieldProblem("seed", "chooses a sample: give sample, too"))

    def prepare(stop: Stop) -> tuple[NewJob, SampleView | None]:
        resources = asked.model_dump(include={"workers", "cpus_per_worker"})
        request = request_of(certificate, resources, services.database)
        dataset, resolved = check_job(request, services, stop)
        directory = services.settings.job_dir(certificate.job.id)
        sample = None if asked.sample is None else draw(certificate, directory, asked.sample, asked.seed)
        body_sha256 = body_digest(_Verification(certificate=certificate, sample=asked.sample, seed=asked.seed))
        new = new_job(request, resolved, spec=spec_json(resolved), dataset=dataset, body_sha256=body_sha256)
        return new, sample

    new, sample = await rooms.checks.run(http_request, prepare)

    def create(session: Session) -> tuple[JobView, bool]:
        job, created = create_job(session, **new, idempotency_key=submission.key)
        if created:
            hold(session, [new["dataset"]], "dataset.digest")
            begin(session, job.id, certificate, services.settings, sample)
            check_room(session, services.settings.max_queued_jobs)
        return job_view(find_or_404(session, Job, job.id), services.settings.mlflow_link), created

    return await run_in_threadpool(submission.submit, JOBS, create)
