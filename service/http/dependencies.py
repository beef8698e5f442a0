"""FastAPI dependencies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.components import Components
from service.settings import Settings
from service.store import Database


@dataclass(frozen=True)
class Services:
    """What endpoints use: the settings, the database and the other components of this process.

    `on_change` wakes the scheduler after a change is committed.
    """

    settings: Settings
    database: Database
    on_change: Callable[[], None]
    components: Components


async def _services(request: Request) -> Services:  # FastAPI would run a plain function in a thread
    return cast("Services", request.app.state.services)


ServicesDependency = Annotated[Services, Depends(_services)]
