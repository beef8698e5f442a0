"""The components of a process beside the API, and their status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class ComponentStatus(NamedTuple):
    """Whether a component is ready, and why it is not or what it does."""

    ready: bool
    detail: str


class Component(Protocol):
    """A component with a status."""

    def status(self) -> ComponentStatus:
        """Status of the component; returns immediately, on any thread."""


class ClusterComponent(Component, Protocol):
    """The cluster, which also has resources."""

    @property
    def resources(self) -> Mapping[str, float]:
        """All CPUs and GPUs for workers, by Ray's names."""


@dataclass(frozen=True)
class Components:
    """The components of this process; None for a component that it does not have."""

    cluster: ClusterComponent | None = None
    scheduler: Component | None = None
    mlflow: Component | None = None
    connections: Component | None = None
