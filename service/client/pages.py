"""Paginated lists of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.client.transport import Transport

LARGEST_PAGE = 100


def entries(
    transport: Transport, path: str, filters: Mapping[str, Any] | None = None, limit: int | None = None
) -> Iterator[Any]:
    """Iterate over the entries of a list: all, or at most `limit`. Pages are fetched as needed."""
    last, more = None, True
    while more and limit != 0:
        size = LARGEST_PAGE if limit is None else min(limit, LARGEST_PAGE)
        query = {**(filters or {}), "limit": size, "starting_after": last}
        page = transport.fetch("data", "GET", path, query=query)
        for data in page["data"]:
            yield data
            last = data["id"]
        more = page["has_more"]
        limit = None if limit is None else limit - len(page["data"])
