"""Content negotiation by the `Accept` header (RFC 9110, 12.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import NotAcceptableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastapi import Request

VARIES = {"Vary": "Accept"}


def negotiate(request: Request, offered: Sequence[str]) -> str:
    """The media type of `offered` that the request prefers. Raises NotAcceptableError where it accepts none."""
    accept = accept_of(request)
    if chosen := preferred(accept, offered):
        return chosen
    message = f"Cannot produce {accept}; available: {', '.join(offered)}."
    raise NotAcceptableError(message, headers=VARIES)


def accept_of(request: Request) -> str:
    """The request's `Accept` headers as one; without any, everything is accepted."""
    return ", ".join(request.headers.getlist("accept")) or "*/*"


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """The media type of `offered` with the highest weight in `accept`, or None.

    Among equal weights, a type that is named comes before one that a wildcard matches, then the first one offered.
    Parameters other than the weight and entries that cannot be parsed are ignored.
    """
    weights = dict(_weights(accept))

    def rank(media_type: str) -> tuple[float, int]:
        """Weight of the most specific entry that matches the type, and how specific it is."""
        ranges = ("*/*", f"{media_type.partition('/')[0]}/*", media_type)
        entries = [(weights[range_], exact) for exact, range_ in enumerate(ranges) if range_ in weights]
        return entries[-1] if entries else (0, 0)

    chosen = max(offered, key=rank)
    return chosen if rank(chosen)[0] > 0 else None


def _weights(accept: str) -> Iterator[tuple[str, float]]:
    for entry in accept.lower().split(","):
        range_, *parameters = (part.strip() for part in entry.split(";"))
        given = [parameter.partition("=")[2] for parameter in parameters if parameter.startswith("q=")]
        try:
            weight = float(given[0]) if given else 1.0
        except ValueError:
            continue
        if 0 <= weight <= 1:
            yield range_, weight
