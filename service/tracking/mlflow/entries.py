"""Entries of a run: JSON values as params, and batches in which MLflow may reject single entries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from service.tracking.mlflow.api import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

Entry = TypeVar("Entry")


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a JSON value as params: ("model.layers.0.units", "128")."""
    match value:
        case dict():
            entries: Any = value.items()
        case list():
            entries = enumerate(value)
        case str():
            yield path, value
            return
        case _:
            yield path, json.dumps(value)
            return
    for key, entry in entries:
        yield from flatten(entry, f"{path}.{key}" if path else str(key))


def send_together(
    send: Callable[[Sequence[Entry]], None],
    entries: Sequence[Entry],
    set_aside: Callable[[Entry, RejectedError], None],
) -> None:
    """Send entries in one call. If MLflow rejects some, find them by bisection and pass them to `set_aside`."""
    try:
        send(entries)
    except RejectedError as error:
        if len(entries) > 1:
            middle = len(entries) // 2
            send_together(send, entries[:middle], set_aside)
            send_together(send, entries[middle:], set_aside)
        else:
            set_aside(entries[0], error)


def milliseconds(moment: datetime) -> int:
    """Return a time in milliseconds since 1970, as MLflow expects it."""
    return round(moment.timestamp() * 1000)
