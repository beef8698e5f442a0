"""REST endpoints of the files of jobs."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, BinaryIO, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from service.errors import ConflictError, NotFoundError, UnavailableError
from service.http.dependencies import Services, ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES
from service.http.room import RoomsDependency
from service.short_text import shortened
from service.store.models import Job
from service.store.rows import find_or_404
from service.tracking.artifacts.contents import Contents
from service.tracking.artifacts.downloads import KINDS, Artifact, Kind, artifacts_of, kind_of, open_whole, pieces
from service.tracking.artifacts.zipped import zipped

TRIES = 3  # while a job runs, the checkpoint that was just listed may be replaced by a newer one
LONGEST_PATH = 200  # characters that a message quotes
ZIP, BINARY = "application/zip", "application/octet-stream"
CONTENT = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

Result = TypeVar("Result")


class ArtifactView(BaseModel):
    """A file of a job."""

    model_config = ConfigDict(from_attributes=True)

    path: str = Field(description="Path below `artifacts/`.", examples=["model/weights.safetensors"])
    kind: Kind
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="SHA-256 of the content, which is also its ETag.")
    media_type: str


class MissingArtifactView(BaseModel):
    """A file that a job should have, and why it cannot be given."""

    model_config = ConfigDict(from_attributes=True)

    kind: Kind
    path: str | None = Field(description="Null for all files of the kind.")
    reason: str


class ArtifactList(BaseModel):
    """The files of a job; of one that has not ended, those that are there so far."""

    data: list[ArtifactView]
    missing: list[MissingArtifactView] = Field(description="What cannot be given, such as a damaged checkpoint.")


class ArtifactFilter(BaseModel):
    """Query parameters of the files of a job."""

    kind: list[Kind] = Field([], description="Only files of this kind; may be repeated. Default: all.")


@router.get("/{job_id}/artifacts", response_model=ArtifactList, response_description="The files")
async def list_artifacts(
    job_id: str,
    request: Request,
    services: ServicesDependency,
    rooms: RoomsDependency,
    query: Annotated[ArtifactFilter, Query()],
) -> Response:
    """List the files of a job: its trained model, last checkpoint, spec, evaluation, history, certificate and figures.

    A job that has not ended has those that are there so far.
    """

    def files() -> ArtifactList:
        found, missing = _with_job(services, job_id, lambda contents, job: artifacts_of(contents, job, _kinds(query)))
        return ArtifactList(
            data=[ArtifactView.model_validate(each) for each in found],
            missing=[MissingArtifactView.model_validate(each) for each in missing],
        )

    return await rooms.downloads.respond(request, files)


@router.get(
    "/{job_id}/artifacts.zip",
    response_class=Response,
    response_description="The archive",
    responses={200: {"content": {ZIP: CONTENT}}},
)
async def get_archive(
    job_id: str,
    request: Request,
    services: ServicesDependency,
    rooms: RoomsDependency,
    query: Annotated[ArtifactFilter, Query()],
) -> Response:
    """Get the files of a job as one zip archive, in a folder named after the job.

    It is written while it is sent. Every file is compared with its digest before.
    """

    def whole(contents: Contents, job: Job) -> list[Artifact]:
        found, _ = artifacts_of(contents, job, _kinds(query))
        for artifact in found:
            if file := open_whole(artifact):
                file.close()
        return found

    found = await rooms.downloads.run(request, lambda _: _with_job(services, job_id, whole))
    if not found:
        raise NotFoundError(f"Job {job_id} has no files of these kinds, or not yet.")
    body = await rooms.downloads.stream(request, zipped(found, job_id))
    return StreamingResponse(body, media_type=ZIP, headers=_saved_as(f"{job_id}.zip"))


@router.get(
    "/{job_id}/artifacts/{path:path}",
    response_class=Response,
    response_description="The file",
    responses={
        200: {
            "content": {BINARY: CONTENT},
            "headers": {"ETag": {"description": "SHA-256 of the content, in quotes.", "schema": {"type": "string"}}},
        }
    },
)
async def get_artifact(
    job_id: str, path: str, request: Request, services: ServicesDependency, rooms: RoomsDependency
) -> Response:
    """Get a file of a job. With its ETag in `If-None-Match`, the response is 304 as long as it is the same.

    The file is compared with its digest before it is sent. Parts of it (ranges) cannot be requested.
    """
    known = request.headers.get("if-none-match", "")

    def opened(contents: Contents, job: Job) -> tuple[Artifact, BinaryIO | None]:
        artifact = _find(contents, job, path)
        return artifact, None if artifact.sha256 in known else open_whole(artifact)

    artifact, file = await rooms.downloads.run(request, lambda _: _with_job(services, job_id, opened))
    headers = {"ETag": f'"{artifact.sha256}"'}
    if artifact.sha256 in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    body = await rooms.downloads.stream(request, pieces(artifact, file))
    headers |= {"Content-Length": str(artifact.size), **_saved_as(artifact.path.rpartition("/")[2])}
    return StreamingResponse(body, media_type=BINARY, headers=headers)  # whatever it is, it is to be saved


def _with_job(services: Services, job_id: str, work: Callable[[Contents, Job], Result]) -> Result:
    """The result of some work with the files of a job, which is repeated if one of them is removed meanwhile."""
    for _ in range(TRIES):
        with services.database.reading() as session:
            job = find_or_404(session, Job, job_id)
            session.refresh(job, ["evaluation"])  # which is read when this session has ended
        with suppress(FileNotFoundError):
            return work(Contents(services.database, services.settings), job)
    raise UnavailableError(f"The files of job {job_id} change faster than they can be read; try again.")


def _find(contents: Contents, job: Job, path: str) -> Artifact:
    kind = kind_of(path)
    found, missing = artifacts_of(contents, job, () if kind is None else [kind])
    for artifact in found:
        if artifact.path == path:
            return artifact
    shown = shortened(path, LONGEST_PATH)
    for each in missing:
        if each.path in {None, path}:
            raise ConflictError(f"{shown} of job {job.id} cannot be given: {each.reason}")
    listed = f"GET /v1/jobs/{job.id}/artifacts lists what it has"
    raise NotFoundError(f"Job {job.id} has no file {shown!r}, or not yet; {listed}.")


def _kinds(query: ArtifactFilter) -> Sequence[Kind]:
    return query.kind or KINDS


def _saved_as(name: str) -> dict[str, str]:
    """A browser saves the response and does not show it."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}
