"""The OpenAPI document: what FastAPI does not describe, and in a form that generators of clients can read."""

from __future__ import annotations

import json
from typing import Any

from service.http.problems import MEDIA_TYPE, Problem

REFERENCE = {"$ref": "#/components/schemas/Problem"}

# Descriptions of the responses with problem details.
ALWAYS = {
    400: "The request cannot be read",
    403: "The role of the token is too low, or the request comes from a page of another site",
    408: "The request arrives too slowly",
    413: "The body is too large",
    422: "A field or parameter is invalid",
    431: "The headers are too large",
    500: "The service has failed",
    503: "The service is temporarily unavailable: try again after `Retry-After` seconds",
}
WITH_TOKENS = {401: "The token is missing or invalid", 429: "This token makes too many requests"}
WITHOUT_TOKENS = {421: "The host name is not allowed"}
BELOW_A_COLLECTION = {404: "There is no such thing", 409: "Its state does not allow the request"}
WITH_A_BODY = {415: "The body has another media type", 507: "The disk is full"}
WITH_FORMATS = {406: "None of the accepted media types can be produced"}


def complete(document: dict[str, Any], *, tokens: bool) -> None:
    """Add the responses with problem details; `tokens` is whether requests need a token."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= {**schema.pop("$defs"), "Problem": schema}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _add_problems(path, method, operation, tokens=tokens)
    for schema in document["components"]["schemas"].values():
        for field in schema.get("properties", {}).values():
            _describe_default(field)


def _add_problems(path: str, method: str, operation: dict[str, Any], *, tokens: bool) -> None:
    responses = operation["responses"]
    has_formats = any(len(response.get("content", {})) > 1 for response in responses.values())
    problems = (
        ALWAYS
        | (WITH_TOKENS if tokens else WITHOUT_TOKENS)
        | (BELOW_A_COLLECTION if "{" in path else {})
        | (WITH_A_BODY if method in {"post", "patch"} else {})
        | (WITH_FORMATS if has_formats else {})
    )
    responses.pop("4XX", None)
    for status, description in sorted(problems.items()):
        problem = {"description": description, "content": {MEDIA_TYPE: {"schema": REFERENCE}}}
        responses.setdefault(str(status), problem)


def _describe_default(field: dict[str, Any]) -> None:
    """Move a default that is an object into the description: generators of clients reject it."""
    if isinstance(field.get("default"), dict):
        default = json.dumps(field.pop("default"))
        field["description"] = f"{field.get('description', '')} Default: {default}.".lstrip()
