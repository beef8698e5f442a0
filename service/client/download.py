"""Files of a job, saved in a directory."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from service.client.errors import DownloadError

if TYPE_CHECKING:
    from service.client.transport import Transport
    from service.client.views import Artifact


def save(transport: Transport, job: str, artifact: Artifact, directory: Path) -> Path:
    """Save a file of the job whose API path is `job`; returns its path.

    A file that is there with the same content is not fetched again. Another one is replaced at the end, when the
    content has been compared with its digest. Raises DownloadError if it differs, or its name leads out of `directory`.
    """
    name = PurePosixPath(artifact["path"])
    if name.is_absolute() or not name.parts or any(part == ".." or set(part) & set("\\:\0") for part in name.parts):
        raise DownloadError(f"the service names a file {artifact['path']!r}, which is not a path below a directory")
    target = directory / name
    if target.is_file() and _sha256_of(target) == artifact["sha256"]:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch:
        partial = Path(scratch, target.name)
        headers = transport.save(f"{job}/artifacts/{quote(artifact['path'])}", partial)
        # Of a job that runs, the file may be newer than the list.
        expected = headers.get("etag", "").strip('"')
        if _sha256_of(partial) != expected:
            raise DownloadError(f"{artifact['path']} was damaged on its way; try again")
        partial.replace(target)
    return target


def _sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
