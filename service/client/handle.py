"""Base class of jobs and sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar
from urllib.parse import quote

from service.client.views import JobData, SweepData

if TYPE_CHECKING:
    import httpx

    from service.client.stream import Streams
    from service.client.transport import Transport

Data = TypeVar("Data", JobData, SweepData)


class Handle(Generic[Data]):
    """A job or sweep as the API last returned it; `refresh()` fetches it again.

    `data` is the API's answer, and `handle["field"]` one of its fields, even one that this client does not know.
    """

    COLLECTION: ClassVar[str]  # path of all jobs or sweeps

    def __init__(self, transport: Transport, streams: Streams, data: Data) -> None:
        self.data: Data = data
        self._transport = transport
        self._streams = streams

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.name!r} {self.data['state']}>"

    def __getitem__(self, field: str) -> Any:
        return dict(self.data)[field]

    @property
    def id(self) -> str:
        """Id: job_... or sweep_..."""
        return self.data["id"]

    @property
    def name(self) -> str:
        """Name."""
        return self.data["name"]

    def refresh(self) -> Self:
        """Fetch the current state."""
        return self._update(self._call("GET"))

    def _call(self, method: str, suffix: str = "", body: dict[str, Any] | None = None) -> httpx.Response:
        return self._transport.call(method, self._path(suffix), body=body)

    def _update(self, response: httpx.Response) -> Self:
        self.data = response.json()
        return self

    def _path(self, suffix: str = "") -> str:
        return f"{self.COLLECTION}/{quote(self.id, safe='')}{suffix}"
