"""ASGI middleware in front of MLflow's own application: allowed routes, the export's secret, checked bodies."""

from __future__ import annotations

import base64
import hmac
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse

from service.access.guard import TokenGuard
from service.dashboard.bounds import MOST_RESULTS, excess, graphql_problem, smaller_page
from service.dashboard.routes import ARTIFACT, Route, find_route
from service.http.limits import replayed
from service.http.problems import problem_response

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.access.tokens import Role

ROUTE = "gradfleet.route"  # key in a request's scope
# Tags by which the export finds runs and MLflow nests, names and stores them. People write notes, their own tags, and
# views of an experiment other than those that the export makes: of all its runs, and of each sweep.
RESERVED_TAG = re.compile(r"(?:gradfleet|mlflow)\..*", re.DOTALL)
NOTES = re.compile(r"mlflow\.(?:note\.content|experimentKind|sharedViewState\.(?!gradfleet\Z|sweep_)\w+)")
# The pages of experiments ask for MLflow's gateway, and show an error without an answer.
GATEWAY = ("GET", "/ajax-api/2.0/mlflow/gateway-proxy")
NO_GATEWAY: dict[str, list[str]] = {"endpoints": []}
BODY_HEADERS = {b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"}
# Registered models come from a run, never from a directory of the server.
SOURCE = re.compile(r"models:/m-[0-9a-f]{32}")


class Door:
    """Passes requests for allowed routes on: those of the export to one application, those of users to another.

    The export authenticates with a secret as its bearer token.
    """

    def __init__(self, *, export: ASGIApp, users: ASGIApp, secret: str) -> None:
        self.export, self.users = export, users
        self.secret = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":  # MLflow has no web sockets, and its start-up code only serves its assistant
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        await self._application(scope)(scope, receive, send)

    def _application(self, scope: Scope) -> ASGIApp:
        if (scope["method"], scope["path"]) == GATEWAY:
            return JSONResponse(NO_GATEWAY)
        route = find_route(scope["method"], scope["path"])
        if route is None:
            detail = (
                f"{scope['method']} {scope['path']} is not available: Gradfleet allows only a part of MLflow's API."
            )
            return problem_response(HTTPStatus.NOT_FOUND, detail, instance=scope["path"])
        scope[ROUTE] = route
        authorization = Headers(scope=scope).get("authorization", "").encode("latin-1")
        if hmac.compare_digest(authorization, self.secret):
            return self.export
        if route.role is None:
            detail = "Only Gradfleet itself writes runs, models and their files; submit a job instead."
            return problem_response(HTTPStatus.FORBIDDEN, detail, instance=scope["path"])
        return self.users


class DashboardGuard(TokenGuard):
    """Requires the service's tokens, which browsers and MLflow's client can send."""

    challenge = 'Basic realm="gradfleet"'
    advice = (
        "A token is needed: in a browser as the password, with any user name; in MLflow's client as "
        "MLFLOW_TRACKING_TOKEN. `gradfleet tokens add` creates one, on the service's machine."
    )

    def needed(self, scope: Scope) -> Role | None:
        """Role that a token needs for a request; None for the probe of containers."""
        route: Route = scope[ROUTE]
        return None if scope["path"] == "/health" else route.role

    def token(self, authorization: str) -> str | None:
        """The token in an `Authorization` header; with the scheme Basic, it is the password."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return super().token(authorization)
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True).decode()
        except ValueError:
            return None
        return decoded.partition(":")[2] if decoded.isprintable() else None


class Checked:
    """Passes on requests whose fields are allowed and that do not ask for too much.

    `export` says whose requests these are: on a route that people use as well, the export is not restricted.
    """

    def __init__(self, app: ASGIApp, *, export: bool) -> None:
        self.app = app
        self.export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route: Route = scope[ROUTE]
        problem = _query_problem(scope)
        if problem:
            await _refusal(scope, problem)(scope, receive, send)
            return
        shared = route.role is not None
        if not self.export and (problem := excess(_query(scope), MOST_RESULTS)):
            await _refusal(scope, problem, HTTPStatus.BAD_REQUEST)(scope, receive, send)
            return
        if (self.export and shared) or (route.fields is None and not (shared and scope["method"] == "POST")):
            await self.app(scope, receive, send)
            return
        try:
            body = json.loads(await Request(scope, receive).body() or b"{}")
            if route.fields is None:
                status, problem, body = HTTPStatus.BAD_REQUEST, _search_problem(scope, body), smaller_page(body)
            else:
                status, problem = HTTPStatus.UNPROCESSABLE_ENTITY, _body_problem(body, route.fields)
        except (ValueError, RecursionError):
            status, problem = HTTPStatus.UNPROCESSABLE_ENTITY, "the body must be a JSON object"
        if problem:
            await _refusal(scope, problem, status)(scope, receive, send)
            return
        # What was checked is what MLflow reads, however it would have parsed the original.
        checked = json.dumps(body).encode()
        kept = [(name, value) for name, value in scope["headers"] if name not in BODY_HEADERS]
        headers = [*kept, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(checked))]
        await self.app({**scope, "headers": headers}, replayed(checked, receive), send)


def _query_problem(scope: Scope) -> str:
    """What is wrong with the path of an artifact in the query; empty if nothing is."""
    for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
        if problem := _path_problem(name, value):
            return problem
    named = {name for name, _ in scope["headers"]}
    if scope["method"] == "GET" and named & (BODY_HEADERS - {b"content-type"}):
        return "a GET request has no body: MLflow would read it in place of the query"
    return ""


def _path_problem(name: str, value: Any) -> str:
    """What is wrong with the paths of artifacts in a field; empty if nothing is."""
    if name.lower().endswith("path") and value:
        if isinstance(value, str) and re.fullmatch(ARTIFACT, value.removesuffix("/"), re.ASCII):
            return ""
        return f"{name[:50]}: must be the relative path of an artifact, such as pictures/learning_curves.png"
    match value:
        case dict():
            return next(filter(None, (_path_problem(key, each) for key, each in value.items())), "")
        case list():
            return next(filter(None, (_path_problem(name, each) for each in value)), "")
    return ""


def _query(scope: Scope) -> dict[str, Any]:
    found = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _search_problem(scope: Scope, body: Any) -> str:
    """What is wrong with the body of a search; empty if nothing is."""
    if not isinstance(body, dict):
        raise ValueError("not an object")  # noqa: TRY004  as for what is not JSON
    if scope["path"] == "/graphql":
        return graphql_problem(body) or _path_problem("variables", body.get("variables"))
    return excess(smaller_page(body))


def _body_problem(body: Any, allowed: frozenset[str]) -> str:
    """What is wrong with the body of a request; empty if nothing is."""
    if not isinstance(body, dict):
        return "the body must be a JSON object"
    if unknown := sorted(body.keys() - allowed):
        return f"{unknown[0][:50]}: this field cannot be set; allowed: {', '.join(sorted(allowed))}"
    key = body.get("key", "")
    if not isinstance(key, str) or (RESERVED_TAG.fullmatch(key) and not NOTES.fullmatch(key)):
        return "key: tags that begin with gradfleet. or mlflow. are set by Gradfleet; choose another name"
    source = body.get("source", "")
    if "source" in body and not (isinstance(source, str) and SOURCE.fullmatch(source)):
        return "source: must be a logged model, models:/m-..."
    return ""


def _refusal(scope: Scope, problem: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> Response:
    return problem_response(status, problem, instance=scope["path"])
