"""Makes the jobs of a sweep from their specs, in time that does not grow with the size of what they share."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from service.http.field_errors import document_problems
from service.jobs.checks import JobChecks
from service.jobs.new_job import new_job
from service.jobs.schemas import BESIDE_SPEC, JobRequest
from workers.job.checks.problems import SpecError
from workers.job.once import Once
from workers.job.spec import DataSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.http.dependencies import Services
    from service.http.room import Stop
    from service.jobs.repository import NewJob
    from workers.job.resolve import ResolvedJob

# The parts of a spec that can be long. Equal ones of several members are validated once.
LONG: dict[str, type[BaseModel]] = {"model": ModelSpec, "data": DataSpec}


class MemberMaking:
    """Validates specs, checks them and makes jobs of them."""

    def __init__(self, services: Services, stop: Stop) -> None:
        self._checks, self._once = JobChecks(services, stop), Once()
        self._parts: dict[tuple[str, str], BaseModel | None] = {}

    def make(self, document: Mapping[str, Any]) -> tuple[NewJob, ResolvedJob]:
        """A job as `create_job` takes it, and the resolved job. Raises InvalidError or SpecError.

        Of a part of specs that is wrong, the problems are in the first error only; so are those of its whole spec.
        """
        parts = {name: part for name in LONG if (part := self._part(name, document)) is not None}
        try:
            request = JobRequest.model_validate({**document, **parts})
        except ValidationError as error:
            raise SpecError(document_problems(error, document, JobRequest)) from None
        dataset, resolved = self._checks.check(request)
        spec = self._json(resolved)
        # Only the digest of a request with an Idempotency-Key is compared, which no member has.
        body_sha256 = hashlib.sha256(json.dumps(spec).encode()).hexdigest()
        return new_job(request, resolved, spec=spec, dataset=dataset, body_sha256=body_sha256), resolved

    def _part(self, name: str, document: Mapping[str, Any]) -> BaseModel | None:
        """A validated part; None if it is not given or wrong. Raises SpecError if it was wrong before."""
        if name not in document:
            return None
        key = name, json.dumps(document[name])
        if key in self._parts and self._parts[key] is None:
            raise SpecError([])  # reported already
        if key not in self._parts:
            try:
                self._parts[key] = LONG[name].model_validate(document[name])
            except ValidationError:
                self._parts[key] = None
        return self._parts[key]

    def _json(self, resolved: ResolvedJob) -> dict[str, Any]:
        """The resolved spec as JSON; members with the same model share that of the model."""
        model = resolved.spec.model
        own = resolved.spec.model_dump(mode="json", exclude={*BESIDE_SPEC, "model"})
        shared = {"model": self._once(model, "json", lambda: model.model_dump(mode="json"))}
        return {
            name: (own | shared)[name] for name in type(resolved.spec).model_fields if name in own or name in shared
        }
