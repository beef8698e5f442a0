"""Expansion of compressed files and archives, up to a limit."""

from __future__ import annotations

import errno
import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Reading = IO[bytes] | gzip.GzipFile

CHUNK_BYTES = 1024 * 1024
DEEPEST = 3  # such as a gzipped file in a gzipped archive
MOST_MEMBERS = 10_000


class Unpacker:
    """Expands files into `directory`, to at most `max_bytes` in all: a small archive can expand to any size."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._folders = 0

    def unpack(self, file: Path, depth: int = 0) -> list[Path]:
        """The files in a .gz, .zip (or .npz) or .tar, also nested; `file` itself if it is none of these.

        Raises DatasetError if it is damaged or exceeds the limit.
        """
        try:
            kind = _kind(file)
            if kind is None:
                return [file]
            if depth == DEEPEST:
                raise DatasetError(f"{file.name} is an archive in an archive in an archive; give the files themselves")
            self._folders += 1
            folder = self._directory / f"unpacked-{self._folders:06}"
            folder.mkdir()
            return [plain for part in self._expand(kind, file, folder) for plain in self.unpack(part, depth + 1)]
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError) as error:
            # zipfile raises RuntimeError for a file with a password.
            if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
                raise  # an error of the local disk; a damaged archive can only cause EINVAL, by a negative offset
            raise DatasetError(f"{file.name} cannot be unpacked: {error}") from error

    def _expand(self, kind: str, file: Path, folder: Path) -> Iterator[Path]:
        if kind == "gzip":
            with gzip.open(file) as unzipped:
                yield self._write(unzipped, file, folder, _without_gz(file.name))
            return
        for count, (name, content) in enumerate(_members(kind, file)):
            if count == MOST_MEMBERS:
                raise DatasetError(f"{file.name} contains more than {MOST_MEMBERS} files")
            with content:
                yield self._write(content, file, folder, name)

    def _write(self, content: Reading, source: Path, folder: Path, name: str) -> Path:
        path = folder / name
        if path.exists():
            raise DatasetError(f"{source.name} contains several files called {name!r}")
        with path.open("xb") as file:
            while chunk := content.read(CHUNK_BYTES):
                self._left -= len(chunk)
                if self._left < 0:
                    raise DatasetError(
                        f"{source.name} holds more than {self._max_bytes} bytes, the most that this service unpacks "
                        "for one dataset"
                    )
                file.write(chunk)
        return path


def _kind(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            start = opened.read(262)
    except OSError as error:
        raise DatasetError(f"{file.name} cannot be read: {text_of(error)}") from error
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar" if start[257:262] == b"ustar" else None


def _members(kind: str, file: Path) -> Iterator[tuple[str, Reading]]:
    """Names, without folders, and contents of files; links and hidden files are skipped."""
    if kind == "zip":
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.is_dir() and (name := plain_name(info.filename)):
                    yield name, archive.open(info)
    else:
        with tarfile.open(file) as archive:
            for member in archive:
                if member.isfile() and (name := plain_name(member.name)):
                    content = archive.extractfile(member)
                    assert content is not None  # noqa: S101 - of a file it never is
                    yield name, content


def plain_name(name: str) -> str | None:
    """A file's name without folders, None for a hidden file. Raises DatasetError for a name that no file can have."""
    plain = PurePosixPath(name).name
    if len(plain.encode()) > 200 or "\0" in plain:
        raise DatasetError(f"an archive has a file of the name {plain[:40]!r}, which no file can have")
    return None if plain.startswith(".") or plain == ".." else plain


def _without_gz(name: str) -> str:
    path = Path(name)
    if path.suffix == ".gz":
        return path.stem
    return f"{path.stem}.tar" if path.suffix == ".tgz" else f"{name}.unpacked"
