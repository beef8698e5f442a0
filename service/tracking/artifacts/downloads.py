"""The files of a job as they can be downloaded: their list, and their content in pieces."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from service.errors import ConflictError, ServiceError
from service.tracking.artifacts.contents import certificate_file
from service.tracking.artifacts.history import kept_history
from workers.machine.error_text import text_of
from workers.record.checkpoint import CheckpointError, computation_sha256, read_header

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import BinaryIO

    from service.store.models import Job
    from service.tracking.artifacts.contents import Contents, Files

Kind = Literal["model", "checkpoint", "spec", "evaluation", "history", "certificate", "pictures"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDERS = {"model", "checkpoint", "pictures"}  # kinds with several files

MEDIA_TYPES = {
    "json": "application/json",
    "yaml": "application/yaml",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "svg": "image/svg+xml",
}
PIECE_BYTES = 1024 * 1024
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Artifact:
    """A file of a job: its path below the job, and its content, in memory or in a file. `sha256` is hexadecimal."""

    path: str
    kind: Kind
    content: bytes | Path
    size: int
    sha256: str

    @property
    def media_type(self) -> str:
        """Media type by the name of the file."""
        return MEDIA_TYPES.get(self.path.rpartition(".")[2], "application/octet-stream")


@dataclass(frozen=True)
class Missing:
    """A file that the job should have, or all of its kind without a path, and why it cannot be given."""

    kind: Kind
    path: str | None
    reason: str


def kind_of(path: str) -> Kind | None:
    """The kind that has a file with this path, if there is such a kind."""
    first = path.partition("/")[0].partition(".")[0]
    return next((kind for kind in KINDS if kind == first), None)


def artifacts_of(contents: Contents, job: Job, kinds: Collection[Kind] = KINDS) -> tuple[list[Artifact], list[Missing]]:
    """The files of a job that has not been deleted, and what it should have but cannot be given.

    A large file is not read for this. Raises FileNotFoundError if a file is removed meanwhile, as the older checkpoints
    of a job that runs are, or all of them with their job.
    """
    found, missing = [], []
    for kind in KINDS:
        if kind not in kinds:
            continue
        try:
            for name, content in _files(contents, job, kind).items():
                path = f"{kind}/{name}" if kind in FOLDERS else name
                found.append(_artifact(path, kind, content, job))
            if kind == "pictures":
                failures = contents.pictures(job).failures
                missing += [Missing(kind, f"{kind}/{name}", reason) for name, reason in failures.items()]
        except FileNotFoundError:
            raise
        except (CheckpointError, OSError, ServiceError) as error:
            missing.append(Missing(kind, None, text_of(error)))
    return found, missing


def _files(contents: Contents, job: Job, kind: Kind) -> Files:
    match kind:
        case "history":
            history = kept_history(contents.directory(job))
            return {} if history is None else {"history.parquet": history}
        case "certificate":
            certificate = contents.certificate(job)
            return {} if certificate is None else certificate_file(certificate)
        case "pictures":
            return {**contents.pictures(job).files}
        case _:
            made = {
                "model": contents.model,
                "checkpoint": contents.checkpoint,
                "spec": contents.spec,
                "evaluation": contents.evaluation,
            }
            return made[kind](job)


def _artifact(path: str, kind: Kind, content: bytes | Path, job: Job) -> Artifact:
    if isinstance(content, Path) and content.suffix == WEIGHTS:
        header = read_header(content.parent, job.id, computation_sha256(job.spec, job.dataset["digest"]))
        return Artifact(path, kind, content, content.stat().st_size, header["files"][content.name])
    if isinstance(content, Path):
        with content.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Artifact(path, kind, content, file.tell(), digest)
    return Artifact(path, kind, content, len(content), hashlib.sha256(content).hexdigest())


def open_whole(artifact: Artifact) -> BinaryIO | None:
    """Open the file of an artifact that has one, and compare its content with the digest.

    Raises ConflictError if it is damaged, FileNotFoundError if it was removed meanwhile.
    """
    if isinstance(artifact.content, bytes):
        return None
    file = artifact.content.open("rb")
    if hashlib.file_digest(file, "sha256").hexdigest() != artifact.sha256:
        file.close()
        raise ConflictError(f"{artifact.path} is damaged: its content does not have its digest.")
    file.seek(0)
    return file


def pieces(artifact: Artifact, file: BinaryIO | None = None) -> Iterator[bytes]:
    """The content in pieces of bounded size; `file` is open at its beginning."""
    if isinstance(artifact.content, bytes):
        yield artifact.content
        return
    with file or artifact.content.open("rb") as opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece
