"""What works beside the API in one process, and how it says that it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class PartStatus(NamedTuple):
    """Whether a part can work, and a sentence on why not, or on what it does."""

    ready: bool
    detail: str


class Part(Protocol):
    """A part that can be asked how it is."""

    def status(self) -> PartStatus:
        """How it is; answers at once, on any thread."""


class ClusterPart(Part, Protocol):
    """The cluster, which has resources as well."""

    @property
    def resources(self) -> Mapping[str, float]:
        """CPUs and GPUs that it has for workers, busy or not, by Ray's names."""


@dataclass(frozen=True)
class Parts:
    """The parts of this process; None for one that it does not have."""

    cluster: ClusterPart | None = None
    scheduler: Part | None = None
    mlflow: Part | None = None
