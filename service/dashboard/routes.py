"""The routes of the MLflow server that may be used, by whom, and with which fields.

The lists contain what the dashboard, MLflow's Python client and the export need. MLflow has about 400 more routes,
among them some that run programs on the server (assistant, scorers, jobs) or open connections (gateway, webhooks).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.access.tokens import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

# A relative path, as the export names artifacts and MLflow its pages. No part begins with a dot, so none is `..`.
# MLflow decodes paths once more, so there is no percent sign either.
ARTIFACT = r"\w[\w.-]*(?:/\w[\w.-]*)*"
# The directories of runs and models. The server, not the request, decides what is in which of them.
ROOT = r"\d+/(?:[0-9a-f]{32}|models/m-[0-9a-f]{32})/artifacts"
PLACEHOLDERS = {"model": "m-[0-9a-f]{32}", "asset": ARTIFACT, "artifact": f"{ROOT}/{ARTIFACT}"}

# Reading. Searches are POST requests.
READ = """
GET  /
GET  /health
GET  /version
GET  /static-files/{asset}
GET  /get-artifact
GET  /model-versions/get-artifact
POST /graphql
GET  /api/2.0/mlflow/artifacts/list
GET  /api/2.0/mlflow-artifacts/artifacts
GET  /api/2.0/mlflow-artifacts/artifacts/{artifact}
GET  /api/2.0/mlflow/experiments/get
GET  /api/2.0/mlflow/experiments/get-by-name
GET  /api/2.0/mlflow/experiments/search
POST /api/2.0/mlflow/experiments/search
POST /ajax-api/2.0/mlflow/experiments/search-datasets
GET  /api/2.0/mlflow/runs/get
POST /api/2.0/mlflow/runs/search
GET  /api/2.0/mlflow/metrics/get-history
GET  /ajax-api/2.0/mlflow/metrics/get-history-bulk
GET  /api/2.0/mlflow/metrics/get-history-bulk-interval
POST /api/2.0/mlflow/logged-models/search
GET  /api/2.0/mlflow/logged-models/{model}
GET  /api/2.0/mlflow/logged-models/{model}/artifacts/directories
GET  /ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files
GET  /api/2.0/mlflow/registered-models/get
GET  /api/2.0/mlflow/registered-models/search
GET  /api/2.0/mlflow/registered-models/alias
GET  /api/2.0/mlflow/registered-models/get-latest-versions
POST /api/2.0/mlflow/registered-models/get-latest-versions
GET  /api/2.0/mlflow/model-versions/get
GET  /api/2.0/mlflow/model-versions/search
GET  /api/2.0/mlflow/model-versions/get-download-uri
GET  /api/3.0/mlflow/server-info
GET  /ajax-api/3.0/mlflow/ui-telemetry
"""

# What people note beside the results. The results themselves are written by the export only.
SUBMIT = """
POST   /api/2.0/mlflow/runs/update             run_id run_uuid run_name
POST   /api/2.0/mlflow/runs/set-tag            run_id run_uuid key value
POST   /api/2.0/mlflow/runs/delete-tag         run_id key
POST   /api/2.0/mlflow/experiments/set-experiment-tag     experiment_id key value
POST   /api/2.0/mlflow/experiments/delete-experiment-tag  experiment_id key
PATCH  /api/2.0/mlflow/registered-models/update      name description
POST   /api/2.0/mlflow/registered-models/set-tag     name key value
DELETE /api/2.0/mlflow/registered-models/delete-tag  name key
POST   /api/2.0/mlflow/registered-models/alias       name alias version
DELETE /api/2.0/mlflow/registered-models/alias       name alias
PATCH  /api/2.0/mlflow/model-versions/update      name version description
POST   /api/2.0/mlflow/model-versions/set-tag     name version key value
DELETE /api/2.0/mlflow/model-versions/delete-tag  name version key
"""

ADMIN = """
POST   /api/2.0/mlflow/runs/delete          run_id
POST   /api/2.0/mlflow/runs/restore         run_id
POST   /api/2.0/mlflow/experiments/delete   experiment_id
POST   /api/2.0/mlflow/experiments/restore  experiment_id
DELETE /api/2.0/mlflow/logged-models/{model}
DELETE /api/2.0/mlflow/registered-models/delete  name
DELETE /api/2.0/mlflow/model-versions/delete     name version
"""

# Without the fields that name a place for files, such as `artifact_location`: the server decides on these places.
EXPORT = """
POST  /api/2.0/mlflow/experiments/create  name
POST  /api/2.0/mlflow/runs/create         experiment_id run_name start_time tags
POST  /api/2.0/mlflow/runs/log-batch      run_id metrics params tags
POST  /api/2.0/mlflow/runs/log-inputs     run_id datasets
POST  /api/2.0/mlflow/runs/outputs        run_id models
POST  /api/2.0/mlflow/logged-models       experiment_id source_run_id name
PATCH /api/2.0/mlflow/logged-models/{model}     model_id status
POST  /api/2.0/mlflow/registered-models/create  name
POST  /api/2.0/mlflow/model-versions/create     name source run_id model_id
PUT   /api/2.0/mlflow-artifacts/artifacts/{artifact}
"""


@dataclass(frozen=True)
class Route:
    """An allowed route.

    role: the role that a user needs; None means that only the export may use the route.
    fields: the fields that the JSON body may have; None means that the body is not checked.
    """

    role: Role | None
    fields: frozenset[str] | None


def find_route(method: str, path: str) -> Route | None:
    """The allowed route of a request; None if there is none. `path` is decoded, as MLflow's routers get it."""
    return next((route for pattern, route in _ROUTES.get(method, ()) if pattern.fullmatch(path)), None)


def _routes(table: str, role: Role | None) -> Iterator[tuple[str, re.Pattern[str], Route]]:
    for line in table.strip().splitlines():
        method, path, *fields = line.split()
        # The dashboard uses the routes of the API below a prefix of its own.
        escaped = re.sub("^/api/", "/(?:ajax-)?api/", path).replace(".", r"\.")
        pattern = re.sub(r"\{(\w+)\}", lambda match: PLACEHOLDERS[match[1]], escaped)
        checked = role is not Role.READ and "{artifact}" not in path
        yield method, re.compile(pattern, re.ASCII), Route(role, frozenset(fields) if checked else None)


_ROUTES: dict[str, list[tuple[re.Pattern[str], Route]]] = {}
for _table, _role in ((READ, Role.READ), (SUBMIT, Role.SUBMIT), (ADMIN, Role.ADMIN), (EXPORT, None)):
    for _method, _pattern, _route in _routes(_table, _role):
        _ROUTES.setdefault(_method, []).append((_pattern, _route))
