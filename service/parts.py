"""The parts of a process beside the API, and their status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class PartStatus(NamedTuple):
    """Whether a part is ready, and why it is not or what it does."""

    ready: bool
    detail: str


class Part(Protocol):
    """A part with a status."""

    def status(self) -> PartStatus:
        """Status of the part; returns immediately, on any thread."""


class ClusterPart(Part, Protocol):
    """The cluster, which also has resources."""

    @property
    def resources(self) -> Mapping[str, float]:
        """All CPUs and GPUs for workers, by Ray's names."""


@dataclass(frozen=True)
class Parts:
    """The parts of this process; None for a part that it does not have."""

    cluster: ClusterPart | None = None
    scheduler: Part | None = None
    mlflow: Part | None = None
