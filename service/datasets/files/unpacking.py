"""Expansion of compressed files and archives, up to a limit."""

from __future__ import annotations

import errno
import gzip
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from service.datasets.files.opening import open_file
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

Reading = IO[bytes] | gzip.GzipFile

CHUNK_BYTES = 1024 * 1024
PACKED = {".xlsx", ".xlsm", ".xlsb", ".ods"}  # archives that a reader opens itself
DEEPEST = 3  # such as a gzipped file in a gzipped archive
MOST_MEMBERS = 10_000
# Of an archive of any size, and for each one more; each member takes about a millisecond, however small it is.
LEAST_MEMBERS, BYTES_PER_MEMBER = 1_000, 1024
LARGEST_HEADER = 4 * 1024 * 1024  # bytes: a .zip's list of so many members, or what a .tar says about one of them
# zipfile raises RuntimeError for a file with a password, and IndexError for a damaged list of members.
FAILURES = (
    *(OSError, EOFError, IndexError, RuntimeError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)


class Unpacker:
    """Expands files into `directory`, to at most `max_bytes` in all: a small archive can expand to any size.

    `given` are the bytes of all files before they are expanded, from which the number of members follows.
    """

    def __init__(self, directory: Path, max_bytes: int, given: int) -> None:
        self._directory = directory.resolve()
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._folders = 0
        self._members = 0
        self._most_members = min(MOST_MEMBERS, LEAST_MEMBERS + given // BYTES_PER_MEMBER)

    def unpack(self, file: Path, depth: int = 0) -> list[Path]:
        """The files in a .gz, .zip (or .npz) or .tar, also nested; `file` itself if it is none of these.

        Raises DatasetError if it is damaged or exceeds the limit.
        """
        try:
            kind = _kind(file)
            if kind == "zip" and file.suffix.lower() in PACKED:
                self._check_size(file)
                kind = None
            if kind is None:
                return [file]
            if depth == DEEPEST:
                raise DatasetError(f"{file.name} is an archive in an archive in an archive; give the files themselves")
            self._folders += 1
            folder = self._directory / f"unpacked-{self._folders:06}"
            folder.mkdir()
            return [plain for part in self._expand(kind, file, folder) for plain in self.unpack(part, depth + 1)]
        except FAILURES as error:
            if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
                raise  # an error of the local disk; a damaged archive can only cause EINVAL, by a negative offset
            raise DatasetError(f"{file.name} cannot be unpacked: {error}") from error

    def _check_size(self, file: Path) -> None:
        with open_file(file) as opened, zipfile.ZipFile(cast("IO[bytes]", _Archive(opened, file.name))) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > self._left:
            raise DatasetError(
                f"{file.name} holds {size} bytes, and at most {self._left} are read from files of this size; save it "
                "as CSV"
            )

    def _expand(self, kind: str, file: Path, folder: Path) -> Iterator[Path]:
        if kind == "gzip":
            with open_file(file) as zipped, gzip.open(zipped) as unzipped:
                yield self._write(unzipped, file, folder, _without_gz(file.name))
            return
        for member in _members(kind, file):
            # Hidden files, folders and links count as well. The number is that of all archives, since each archive in
            # an archive could have as many.
            self._members += 1
            if self._members > self._most_members:
                raise DatasetError(f"{file.name} contains more than {self._most_members} files, too many for its size")
            if member is not None:
                name, content = member
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
                        "from files of this size; give it unpacked, or in a format such as Parquet"
                    )
                file.write(chunk)
        return path


def _kind(file: Path) -> str | None:
    with open_file(file) as opened:
        start = opened.read(262)
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar" if start[257:262] == b"ustar" else None


class _Archive:
    """A file whose parts are read, up to a limit: the standard library reads a header of any size as a whole."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or all. Raises DatasetError if they are too many."""
        # Never more than the limit and one, whatever a damaged header asks for.
        read = self._file.read(LARGEST_HEADER + 1 if size < 0 else min(size, LARGEST_HEADER + 1))
        if len(read) > LARGEST_HEADER:
            raise DatasetError(f"{self._name} has a header or a list of files of more than {LARGEST_HEADER} bytes")
        return read


def _members(kind: str, file: Path) -> Iterator[tuple[str, Reading] | None]:
    """Names, without folders, and contents of files; None for a folder, a link or a hidden file."""
    with open_file(file) as opened:
        limited = cast("IO[bytes]", _Archive(opened, file.name))
        if kind == "zip":
            with zipfile.ZipFile(limited) as archive:
                for info in archive.infolist():
                    name = None if info.is_dir() else plain_name(info.filename)
                    yield (name, archive.open(info)) if name else None
        else:
            with tarfile.open(fileobj=limited, mode="r:") as archive:
                for member in archive:
                    name = plain_name(member.name) if member.isfile() else None
                    content = archive.extractfile(member) if name else None
                    yield (name, content) if name and content else None


def plain_name(name: str) -> str | None:
    """A file's name without folders, None for a hidden file or no name.

    Raises DatasetError for a name that no file can have.
    """
    # In an archive a name may have any bytes, but messages are text.
    plain = PurePosixPath(name).name.encode(errors="replace").decode()
    if len(plain.encode()) > 200 or "\0" in plain:
        raise DatasetError(f"an archive has a file of the name {plain[:40]!r}, which no file can have")
    return plain if plain and not plain.startswith(".") else None


def _without_gz(name: str) -> str:
    path = Path(name)
    match path.suffix.lower():
        case ".gz":
            return path.stem
        case ".tgz":
            return f"{path.stem}.tar"
    return f"{name}.unpacked"
