"""Allowed places of a dataset's files, and the files there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from service.datasets.files.remote import fetch, is_remote
from service.errors import InvalidError
from workers.job.resolve import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.settings import Settings

MOST_FILES = 10_000

# The message does not reveal the directories.
HINT = "give a path as seen from the service's uploads, or from one of the directories of its setting data_roots"


def find_files(field: str, path: str, settings: Settings, workspace: Path) -> tuple[list[Path], str]:
    """The files at a path or an address, and the source to record; remote files are copied into `workspace`.

    Raises InvalidError, which names the `field` of the request, for a place that is not allowed.
    """
    if is_remote(path):
        return fetch(field, path, settings.allowed_uris, workspace / field, settings.max_dataset_bytes), path
    roots = [_resolve(root) for root in settings.allowed_roots]
    source = _find_source(field, path, roots)
    return ([source] if source.is_file() else _files_of(field, source, roots)), str(source)


def shown_source(source: str, settings: Settings) -> str:
    """A recorded source without paths of the machine."""
    if is_remote(source):
        return source
    path = Path(source)
    # Of a directory that is no longer allowed, only the file's name is shown.
    below = [path.relative_to(root) for root in map(_resolve, settings.allowed_roots) if path.is_relative_to(root)]
    return str(below[0] if below else path.name)


def _find_source(field: str, path: str, roots: Sequence[Path]) -> Path:
    """The file or folder with all links resolved. Raises InvalidError unless it is below one of `roots`."""
    # A relative path is relative to each root; an absolute path replaces the root.
    below = [candidate for root in roots if (candidate := _resolve(root / path)).is_relative_to(root)]
    if not below:
        raise InvalidError(FieldProblem(field, f"{path!r} is outside the directories for datasets; {HINT}"))
    for candidate in below:
        if os.path.isfile(candidate) or os.path.isdir(candidate):  # noqa: PTH112, PTH113 - Path's raise on some names
            return candidate
    raise InvalidError(FieldProblem(field, f"{path!r} is not a file or folder there; {HINT}"))


def _files_of(field: str, folder: Path, roots: Sequence[Path]) -> list[Path]:
    """All files below a folder that are not hidden. Raises InvalidError for a link that leads out of `roots`."""
    found: list[Path] = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in sorted(names):
            if name.startswith((".", "_")):
                continue
            path = _resolve(Path(directory) / name)
            if not any(path.is_relative_to(root) for root in roots):
                message = f"{name!r} in that folder is a link that leads outside the directories for datasets"
                raise InvalidError(FieldProblem(field, message))
            if path.is_file():
                found.append(path)
        if len(found) > MOST_FILES:
            raise InvalidError(FieldProblem(field, f"that folder has more than {MOST_FILES} files"))
    return found


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises on links that form a loop
