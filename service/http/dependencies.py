"""What endpoints are given."""

from asyncio import Semaphore
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.parts import Parts
from service.settings import Settings
from service.store import Database


@dataclass(frozen=True)
class Services:
    """The parts of the application; `on_change` wakes the scheduler once a change is committed.

    `registrations` lets a few registrations of datasets work at once.
    """

    settings: Settings
    database: Database
    on_change: Callable[[], None]
    parts: Parts
    registrations: Semaphore


async def _services(request: Request) -> Services:  # else it would be sent to a thread of its own
    return cast("Services", request.app.state.services)


ServicesDependency = Annotated[Services, Depends(_services)]
