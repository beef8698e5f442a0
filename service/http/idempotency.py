"""The Idempotency-Key of POST requests, and what all POST requests that create something have in common.

A client may send a key with every POST. Only jobs and sweeps have to store it: repeating any other POST changes
nothing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from service.http.dependencies import Services, ServicesDependency

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A request that is repeated with the same key has no further effect.",
    ),
]


def _take_key(
    _key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Accepted but not needed: this request can be repeated safely without a key.",
        ),
    ] = None,
) -> None:
    """Describe the header."""


# For `dependencies=` of a POST that is idempotent by nature.
IDEMPOTENT = Depends(_take_key)


class _WithId(Protocol):
    id: str


View = TypeVar("View", bound=_WithId)


@dataclass(frozen=True)
class Submission:
    """A POST that queues jobs."""

    response: Response
    services: Services
    key: str | None

    def submit(self, path: str, create: Callable[[Session], tuple[View, bool]]) -> View:
        """Commit what `create` adds, wake the scheduler if it is new, and set status and Location.

        `create` returns the view and whether it is new; `path` is that of the collection.
        """
        with self.services.database.writing() as session:
            view, created = create(session)
        if created:
            self.services.on_change()
        set_location(self.response, f"{path}/{view.id}", created=created)
        return view


async def _submission(response: Response, services: ServicesDependency, key: IdempotencyKey = None) -> Submission:
    return Submission(response, services, key)


SubmissionDependency = Annotated[Submission, Depends(_submission)]


def body_digest(body: BaseModel) -> str:
    """SHA-256 of a request's body, by which a repeated request is recognised."""
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()


def set_location(response: Response, location: str, *, created: bool) -> None:
    """Set the Location header, and the status 200 where nothing new was created."""
    response.headers["Location"] = location
    if not created:
        response.status_code = HTTPStatus.OK


def created_responses(view: type[BaseModel], name: str, existing: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a POST that answers 201 with something new, or 200 with what exists."""
    location = {"headers": {"Location": {"description": f"Path of the {name}.", "schema": {"type": "string"}}}}
    return {201: location, 200: location | {"model": view, "description": existing}}
