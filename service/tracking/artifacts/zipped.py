"""A zip archive that is written while it is sent, in memory that does not grow with it."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from service.tracking.artifacts.downloads import WEIGHTS, pieces
from service.tracking.model.mlflow_model import ZIP_EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from service.tracking.artifacts.downloads import Artifact


class _Sent:
    """A file that can be written only; `take` returns what was written since the last call."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, piece: bytes) -> int:
        self._written += piece
        return len(piece)

    def flush(self) -> None:
        """Do nothing: there is no other buffer."""

    def close(self) -> None:
        """Do nothing: the archive is in memory until it is taken."""

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def zipped(artifacts: Iterable[Artifact], folder: str) -> Iterator[bytes]:
    """The pieces of an archive with these files in a folder. Weights are stored as they are: they hardly shrink."""
    sent = _Sent()
    with zipfile.ZipFile(sent, "w") as archive:
        for artifact in artifacts:
            entry = zipfile.ZipInfo(f"{folder}/{artifact.path}", ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_STORED if artifact.path.endswith(WEIGHTS) else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.file_size = artifact.size  # by which it is decided whether 32 bits are enough for sizes
            with archive.open(entry, "w") as member:
                for piece in pieces(artifact):
                    member.write(piece)
                    if taken := sent.take():
                        yield taken
    yield sent.take()
