"""Validation errors for users: the path of the field in the request's JSON, and a message."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from core.names import counted, suggest
from service.errors import MOST_PROBLEMS
from service.short_text import shortened
from workers.job.checks.problems import FieldProblem
from workers.job.fields import FieldValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fastapi.exceptions import RequestValidationError
    from pydantic import BaseModel, ValidationError
    from starlette.requests import Request

    # The JSON schema of a place in the body.
    SchemaAt = Callable[[Sequence[str | int]], dict[str, Any]]
    # What Pydantic found, where in the request, and how to find the schema of that place.
    Found = tuple[Mapping[str, Any], list[str | int], SchemaAt]

LONGEST_QUOTE = 60
TYPE_EXPECTED = re.compile(r"must be ((?:an? |true |').*), not (.*)", re.DOTALL)
LONGEST_LIST = 600  # characters of the known names in a message

# Pydantic's error types; `{name}` is an entry of the error's context.
MESSAGES = {
    "missing": "is required",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "greater_than": "must be greater than {gt}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "less_than": "must be less than {lt}, not {input}",
    "finite_number": "must be a finite number, not {input}",
    "int_type": "must be an integer, not {input}",
    "int_parsing": "must be an integer, not {input}",
    "int_from_float": "must be an integer, not {input}",
    "float_type": "must be a number, not {input}",
    "bool_type": "must be true or false, not {input}",
    "string_type": "must be a string, not {input}",
    "list_type": "must be a list, not {input}",
    "model_type": "must be an object, not {input}",
    "model_attributes_type": "must be an object, not {input}",
    "dict_type": "must be an object, not {input}",
    "tuple_type": "must be a list, not {input}",
    "string_too_short": "must have at least {least}, not {input}",
    "string_too_long": "must have at most {most}",
    "too_short": "must have at least {least}, not {actual_length}",
    "too_long": "must have at most {most}, not {actual_length}",
    "literal_error": "must be {expected}, not {input}",
    "enum": "must be {expected}, not {input}",
    "string_pattern_mismatch": "must match {pattern}, not {input}",
}


def field_problems(error: RequestValidationError, request: Request) -> list[FieldProblem]:
    """The problems of a request, one per field; the first ones, if there are many."""
    return _first_of_fields(_found_in_request(error, request))


def document_problems(error: ValidationError, document: Any, model: type[BaseModel]) -> list[FieldProblem]:
    """The problems of a document that is not a request, one per field; the first ones, if there are many."""
    schema = _schema_of(model)
    schema_at = partial(_schema_at, body=document, root=schema, definitions=schema["$defs"])
    return _first_of_fields(
        (entry, _path(entry["loc"], document, entry["type"]), schema_at) for entry in error.errors()
    )


def _found_in_request(error: RequestValidationError, request: Request) -> Iterator[Found]:
    for entry in error.errors():
        source, *location = entry["loc"]
        if source == "query":
            yield entry, location[:1], lambda _: query_schema(request)
            continue
        if source == "body":
            path = _path(location, error.body, entry["type"])
        elif source == "header":
            path = ["-".join(word.capitalize() for word in str(location[0]).split("-"))]
        else:
            path = location[:1]
        yield entry, path, lambda path: _schema_at(path, error.body, *_schemas_of(request))


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _within(entry: Mapping[str, Any]) -> list[str]:
    """The rest of the path, where the place that Pydantic names is an object that contains the wrong field."""
    if entry["type"] == "union_tag_not_found":
        return [_discriminator(entry)]
    error = entry.get("ctx", {}).get("error")
    return error.field.split(".") if isinstance(error, FieldValueError) else []


def _for_what_is_given(found: Iterable[Found]) -> Iterator[Found]:
    """The errors without those that say only that a list is not a number, of fields that may be either."""
    every = list(found)
    wrong_lists = {
        entry["loc"][:position]
        for entry, _, _ in every
        for position, part in enumerate(entry["loc"])
        if str(part).startswith("list[")
    }
    for each in every:
        *place, part = each[0]["loc"]
        if not isinstance(each[0]["input"], list) or tuple(place) not in wrong_lists or str(part).startswith("list["):
            yield each


def _first_of_fields(found: Iterable[Found]) -> list[FieldProblem]:
    problems: dict[str, FieldProblem] = {}
    for entry, place, schema_at in _for_what_is_given(found):
        path = [*place, *_within(entry)]
        field = ".".join(str(part) for part in path) or "body"
        message = _message(entry, path, schema_at)
        first = problems.get(field)
        # Of a union, Pydantic reports what is wrong with each of its types.
        problems[field] = FieldProblem(field, message if first is None else _either(first.message, message))
        if len(problems) == MOST_PROBLEMS:
            break
    return list(problems.values())


def _either(first: str, other: str) -> str:
    """One sentence of two like "must be an integer, not 'x'" about the same value; otherwise the first."""
    found, expected = TYPE_EXPECTED.fullmatch(first), TYPE_EXPECTED.fullmatch(other)
    if found is None or expected is None or found[2] != expected[2] or expected[1] in found[1]:
        return first
    return f"must be {found[1]} or {expected[1]}, not {found[2]}"


def quote(value: object) -> str:
    """A value of the request, short enough for a sentence."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "an object"
    return shortened(repr(value), LONGEST_QUOTE)


def unknown(value: object, known: Iterable[str], what: str) -> str:
    """Message about an unknown name, with the known names and the most similar one."""
    known = list(known)
    listed = shortened(", ".join(known) or "none yet", LONGEST_LIST)
    return f"{quote(value)} is not a known {what}; known: {listed}{suggest(value, known)}"


def _path(location: Sequence[str | int], body: Any, kind: str) -> list[str | int]:
    """The part of a location that is in the user's JSON, without what pydantic adds (the tags of unions)."""
    path: list[str | int] = []
    value = body
    for position, part in enumerate(location):
        match value, part:
            case (dict(), _) if part in value:
                value = value[part]
            case (list(), int()) if part < len(value):
                value = value[part]
            case _ if not (kind == "missing" and position == len(location) - 1):
                continue
        path.append(part)
    return path


def _discriminator(entry: Mapping[str, Any]) -> str:
    return str(entry["ctx"]["discriminator"]).strip("'")


def _message(entry: Mapping[str, Any], path: Sequence[str | int], schema_at: SchemaAt) -> str:
    context = entry.get("ctx", {})
    match entry["type"]:
        case "extra_forbidden":
            return unknown(path[-1], schema_at(path[:-1])["properties"], "field")
        case "union_tag_invalid":
            known = (tag.strip(" '") for tag in context["expected_tags"].split(","))
            return unknown(context["tag"], known, _discriminator(entry))
        case "union_tag_not_found":
            known = schema_at(path[:-1])["discriminator"]["mapping"]
            return f"is required; known: {', '.join(known)}"
        case "value_error":
            return str(context["error"])
        case kind if kind in MESSAGES:
            if "actual_length" in context:  # pydantic gives none for an object
                context = {**context, "actual_length": len(entry["input"])}
            if kind in {"too_short", "too_long"} and isinstance(entry["input"], str):
                kind = f"string_{kind}"
            noun = ("character", "") if kind.startswith("string") else ("entry", "entries")
            bounds = {"least": context.get("min_length"), "most": context.get("max_length")}
            counts = {name: counted(bound, *noun) for name, bound in bounds.items() if bound is not None}
            return MESSAGES[kind].format(**context, **counts, input=quote(entry["input"]))
    return str(entry["msg"][:1].lower() + entry["msg"][1:])


def _schemas_of(request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON schema of a request's body, and the schemas that it refers to."""
    content = _operation_of(request)["requestBody"]["content"]
    return content["application/json"]["schema"], request.app.openapi()["components"]["schemas"]


def query_schema(request: Request) -> dict[str, Any]:
    """A schema of a request's query."""
    parameters = _operation_of(request).get("parameters", [])
    return {"properties": {one["name"]: one["schema"] for one in parameters if one["in"] == "query"}}


def _operation_of(request: Request) -> dict[str, Any]:
    # By its unique name: the route of a router within another one has only the last part of its path.
    name, paths = request.scope["route"].name, request.app.openapi()["paths"].values()
    return next(found for methods in paths for found in methods.values() if found["operationId"] == name)


def _schema_at(
    path: Sequence[str | int], body: Any, root: dict[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    """The schema of a place in the body."""

    def followed(schema: dict[str, Any], value: Any) -> dict[str, Any]:
        """The schema with references resolved, and of a union the member that the value's tag selects."""
        while True:
            if "anyOf" in schema:
                # Of an optional field: the other member is null.
                schema = schema["anyOf"][0]
            if "discriminator" in schema:
                tag = value.get(schema["discriminator"]["propertyName"])
                if tag not in schema["discriminator"]["mapping"]:
                    return schema
                schema = {"$ref": schema["discriminator"]["mapping"][tag]}
            if "$ref" not in schema:
                return schema
            schema = definitions[schema["$ref"].rpartition("/")[2]]

    schema = followed(root, body)
    for part in path:
        body = body[part]
        schema = followed(_schema_below(schema, part), body)
    return schema


def _schema_below(schema: dict[str, Any], part: str | int) -> dict[str, Any]:
    if isinstance(part, int):
        return dict(schema["items"])
    if "properties" in schema:
        return dict(schema["properties"][part])
    # An entry named by the user, whose name must match a pattern.
    (below,) = schema["patternProperties"].values()
    return dict(below)
