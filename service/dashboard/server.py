"""The application that `mlflow server --app-name gradfleet` serves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from service.access.headers import SecurityHeaders
from service.access.local import LocalOnly
from service.dashboard.door import Checked, DashboardGuard, Door
from service.http.limits import BodyLimit
from service.settings import Settings
from service.store import Database

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MAX_BODY_BYTES = 64 * 1024  # of users' requests; the longest are searches that list runs
HEADERS = {
    # MLflow's pages contain inline scripts and styles. They load nothing from other servers, and send nothing to them.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
    "Cache-Control": "no-store",
}


def create_app() -> ASGIApp:
    """MLflow's application behind the door, with the settings of the environment."""
    # In place of MLflow's checks, which accept host names by patterns such as 10.* and pages of any port of localhost.
    os.environ["MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"] = "true"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.server.fastapi_app import app  # noqa: PLC0415  it reads the environment

    return behind_door(app, Settings())


def behind_door(mlflow: ASGIApp, settings: Settings) -> ASGIApp:
    """An application of MLflow's behind the door. Raises ValueError without a secret in the settings."""
    if settings.mlflow_secret is None:
        raise ValueError("GRADFLEET_MLFLOW_SECRET must be set: by this secret the server knows the export")
    users: ASGIApp = BodyLimit(Checked(mlflow, export=False), MAX_BODY_BYTES, settings.max_body_seconds)
    if settings.requires_token:
        users = DashboardGuard(users, Database(settings.database), settings.requests_per_second)
    door = Door(export=Checked(mlflow, export=True), users=users, secret=settings.mlflow_secret.get_secret_value())
    return SecurityHeaders(LocalOnly(door, settings.allowed_hosts), HEADERS)
