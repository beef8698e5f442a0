"""Allowed places of a dataset's files, and the files there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from service.datasets.files.opening import open_directory
from service.short_text import quoted
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_FILES = 10_000
LONGEST_QUOTE = 200  # characters

# The message does not reveal the directories.
HINT = "give a path as seen from the service's uploads, or from one of the directories of its setting data_roots"


class PlaceError(DatasetError):
    """A place that is not allowed or has no files; `field` is the field of the request that names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def is_remote(path: str) -> bool:
    """Whether a path is an address with a scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def check_address(field: str, uri: str, allowed: Sequence[str]) -> None:
    """Raise PlaceError for an address that is not below one of the allowed prefixes."""
    path = uri.partition("://")[2]
    # Any other address (with a user, a query or an escape) could denote another place than the allowed one.
    plain = re.fullmatch(r"[^/?#@%\s:]+(/[^/?#%\s]+)*/?", path) and not {".", ".."} & set(path.split("/"))
    if not plain or not any(_is_below(uri, prefix) for prefix in allowed):
        known = f"those that begin with {', '.join(allowed)}" if allowed else "none (its setting allowed_uris)"
        raise PlaceError(
            field, f"{quoted(uri, LONGEST_QUOTE)} is not an address that this service may read; it may read {known}"
        )


def find_files(field: str, path: str, roots: Sequence[Path]) -> tuple[list[Path], Path]:
    """The files at a path below one of the roots, and the path with all links resolved. Raises PlaceError."""
    source = find_source(field, path, roots)
    return ([source] if source.is_file() else _files_of(field, source, [_place_of(root) for root in roots])), source


def recorded_source(source: Path, data_dir: Path) -> str:
    """A file or folder with all links resolved, as it is recorded: relative to the data directory if it is in that."""
    home = _resolve(data_dir)
    return str(source.relative_to(home) if source.is_relative_to(home) else source)


def shown_source(source: str, data_dir: Path, roots: Sequence[Path]) -> str:
    """A recorded source without paths of the machine."""
    if is_remote(source):
        return source
    path = _resolve(data_dir) / source
    # Of a directory that is no longer allowed, only the file's name is shown.
    below = [path.relative_to(root) for root in map(_place_of, roots) if path.is_relative_to(root)]
    return str(below[0] if below else path.name)


def _is_below(uri: str, prefix: str) -> bool:
    base = prefix.rstrip("/")
    return uri.rstrip("/") == base or uri.startswith(f"{base}/")


def find_source(field: str, path: str, roots: Sequence[Path]) -> Path:
    """The file or folder with all links resolved. Raises PlaceError unless it is below one of `roots`."""
    # A relative path is relative to each root; an absolute path replaces the root.
    below = [candidate for root in map(_place_of, roots) if (candidate := _resolve(root / path)).is_relative_to(root)]
    if not below:
        raise PlaceError(field, f"{quoted(path, LONGEST_QUOTE)} is outside the directories for datasets; {HINT}")
    for candidate in below:
        if os.path.isfile(candidate) or os.path.isdir(candidate):  # noqa: PTH112, PTH113 - Path's raise on some names
            return candidate
    raise PlaceError(field, f"{quoted(path, LONGEST_QUOTE)} is not a file or folder there; {HINT}")


def _files_of(field: str, folder: Path, roots: Sequence[Path]) -> list[Path]:
    """All files below a folder that are not hidden. Raises PlaceError for a link that leads out of `roots`."""
    found: list[Path] = []
    entries = 0
    for directory, folders, names in _walk(field, folder):
        entries += len(names) + len(folders)
        if entries > MOST_FILES:
            raise PlaceError(field, f"that folder has more than {MOST_FILES} files")
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in sorted(names):
            if name.startswith((".", "_")):
                continue
            path = _resolve(folder / directory / name)
            if not any(path.is_relative_to(root) for root in roots):
                raise PlaceError(
                    field, f"{name!r} in that folder is a link that leads outside the directories for datasets"
                )
            if path.is_file():
                found.append(path)
    return found


def _walk(field: str, folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like os.walk, but it lists no directory that has taken the place of one of the folder's."""
    try:
        descriptor = open_directory(folder)
    except OSError as error:
        raise PlaceError(field, f"that folder cannot be read: {text_of(error)}") from error
    try:
        for directory, folders, names, _ in os.fwalk(".", dir_fd=descriptor):
            yield directory, folders, names
    finally:
        os.close(descriptor)


def _place_of(root: Path) -> Path:
    """The path of a root: a link that has taken its place is not followed, so that all paths in it are outside."""
    return _resolve(root.parent) / root.name


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises on links that form a loop
