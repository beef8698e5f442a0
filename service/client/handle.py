"""Something of the service's, as its owner holds it: what jobs and sweeps have in common."""

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
    """A thing as it was when it was last asked for; `refresh()` asks again.

    `data` is all that the API says of it, and `handle["field"]` one field of it, also one that this client does not
    know.
    """

    PLACE: ClassVar[str]  # path of all things of its kind

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
        """Its id, which begins with its kind."""
        return self.data["id"]

    @property
    def name(self) -> str:
        """Its name."""
        return self.data["name"]

    def refresh(self) -> Self:
        """Ask how it is now."""
        return self._take(self._call("GET"))

    def _call(self, method: str, what: str = "", body: dict[str, Any] | None = None) -> httpx.Response:
        return self._transport.call(method, self._path(what), body=body)

    def _take(self, response: httpx.Response) -> Self:
        self.data = response.json()
        return self

    def _path(self, what: str = "") -> str:
        return f"{self.PLACE}/{quote(self.id, safe='')}{what}"
