"""Client of the parts of MLflow's REST API that log runs.

The mlflow package is not used, since it takes a second and 160 MB to import and hides which call failed.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import httpx

from service.client.http import http_client

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from service.jobs.series.points import Point

TIMEOUT_S = 10
PARAMS_PER_CALL = 100
RUNS_PER_CALL = 1000
LONGEST_PARAM = 6000
LONGEST_TAG = 5000
MISSING = "RESOURCE_DOES_NOT_EXIST"
ARTIFACT_SCHEME = "mlflow-artifacts:/"

# Answers that do not depend on the request: the server, or its configuration, has a problem.
UNAVAILABLE = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.TOO_MANY_REQUESTS,
}


class UnavailableError(Exception):
    """MLflow did not answer, or has a problem. The request may or may not have been processed."""


class RejectedError(Exception):
    """MLflow rejected the request."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Run(NamedTuple):
    """A run in MLflow."""

    run_id: str
    experiment_id: str
    active: bool
    artifact_uri: str


class LoggedModel(NamedTuple):
    """A logged model in MLflow."""

    model_id: str
    artifact_uri: str
    ready: bool


class MlflowApi:
    """Client of the MLflow server at `url`. Each call may raise UnavailableError or RejectedError.

    `secret` is that of a server with `--app-name gradfleet`.
    """

    def __init__(self, url: str, secret: str | None = None) -> None:
        self._http = http_client(url, TIMEOUT_S, {"Authorization": f"Bearer {secret}"} if secret else None)
        self._interrupted = threading.Event()
        self._socket: socket.socket | None = None

    def interrupt(self) -> None:
        """Abort the current call, and all later ones, with UnavailableError. Called from another thread."""
        self._interrupted.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # already closed
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def experiment(self, name: str) -> str:
        """Return the id of an experiment. Create or restore it if necessary."""
        try:
            answer = self._call("GET", "experiments/get-by-name", query={"experiment_name": name})
        except RejectedError as error:
            if error.code != MISSING:
                raise
            return str(self._call("POST", "experiments/create", {"name": name})["experiment_id"])
        return self._restored(answer["experiment"])

    def restore_experiment(self, experiment_id: str) -> bool:
        """Restore an experiment with its runs. Returns False if it was not deleted."""
        experiment = self._call("GET", "experiments/get", query={"experiment_id": experiment_id})["experiment"]
        self._restored(experiment)
        return bool(experiment["lifecycle_stage"] == "deleted")

    def _restored(self, experiment: dict[str, Any]) -> str:
        experiment_id = str(experiment["experiment_id"])
        if experiment["lifecycle_stage"] == "deleted":
            self._call("POST", "experiments/restore", {"experiment_id": experiment_id})
        return experiment_id

    def tag_experiment(self, experiment_id: str, key: str, value: str) -> None:
        """Set a tag of an experiment."""
        self._call(
            "POST", "experiments/set-experiment-tag", {"experiment_id": experiment_id, "key": key, "value": value}
        )

    def find_run(self, experiment_id: str, tag: str, value: str) -> Run | None:
        """Return the oldest run of an experiment with this tag."""
        body = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{tag}` = '{value}'",
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        runs = self._call("POST", "runs/search", body).get("runs", [])
        return _run(runs[0]) if runs else None

    def unended_runs(self, experiment_ids: Sequence[str], tag: str) -> list[tuple[str, str]]:
        """Return the ids of the runs with this tag that have not ended, each with the value of the tag."""
        unended = (f"attributes.status != '{status}'" for status in ("FINISHED", "FAILED", "KILLED"))
        body: dict[str, Any] = {
            "experiment_ids": list(experiment_ids),
            "filter": " AND ".join([f"tags.`{tag}` LIKE '%'", *unended]),
            "max_results": RUNS_PER_CALL,
        }
        found, token = [], ""
        while True:
            answer = self._call("POST", "runs/search", body | {"page_token": token} if token else body)
            for run in answer.get("runs", []):
                (value,) = (entry["value"] for entry in run["data"]["tags"] if entry["key"] == tag)
                found.append((run["info"]["run_id"], value))
            token = answer.get("next_page_token", "")
            if not token:
                return found

    def create_run(self, experiment_id: str, name: str, start_ms: int, tags: dict[str, str]) -> Run:
        """Create a run. Not idempotent: call `find_run` first."""
        body = {"experiment_id": experiment_id, "run_name": name, "start_time": start_ms, "tags": _entries(tags)}
        return _run(self._call("POST", "runs/create", body)["run"])

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._call("POST", "runs/delete", {"run_id": run_id})

    def get_run(self, run_id: str) -> Run:
        """Return a run."""
        return _run(self._call("GET", "runs/get", query={"run_id": run_id})["run"])

    def log_params(self, run_id: str, params: Iterable[tuple[str, str]]) -> None:
        """Log at most 100 params. Idempotent."""
        entries = [{"key": key, "value": value[:LONGEST_PARAM]} for key, value in params]
        self._call("POST", "runs/log-batch", {"run_id": run_id, "params": entries})

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log at most 1,000 points. Idempotent."""
        # The dashboard would draw infinity as 1.8e308. It draws NaN as a gap.
        entries = [
            {
                "key": point.name,
                "value": point.value if math.isfinite(point.value) else "NaN",
                "timestamp": point.time_ms,
                "step": point.step,
            }
            for point in points
        ]
        self._call("POST", "runs/log-batch", {"run_id": run_id, "metrics": entries})

    def set_tags(self, run_id: str, tags: Iterable[tuple[str, str]]) -> None:
        """Set at most 100 tags."""
        self._call("POST", "runs/log-batch", {"run_id": run_id, "tags": _entries(dict(tags))})

    def log_inputs(self, run_id: str, datasets: Sequence[dict[str, Any]]) -> None:
        """Log datasets as inputs. Idempotent."""
        self._call("POST", "runs/log-inputs", {"run_id": run_id, "datasets": datasets})

    def set_status(self, run_id: str, status: str, end_ms: int | None = None) -> None:
        """Set the status of a run, and its end time."""
        body: dict[str, Any] = {"run_id": run_id, "status": status}
        self._call("POST", "runs/update", body if end_ms is None else body | {"end_time": end_ms})

    def find_model(self, experiment_id: str, run_id: str) -> LoggedModel | None:
        """Return the oldest model of a run."""
        body = {
            "experiment_ids": [experiment_id],
            "filter": f"source_run_id = '{run_id}'",
            "order_by": [{"field_name": "creation_timestamp", "ascending": True}],
            "max_results": 1,
        }
        models = self._call("POST", "logged-models/search", body).get("models", [])
        return _model(models[0]) if models else None

    def create_model(self, experiment_id: str, run_id: str, name: str) -> LoggedModel:
        """Create a model without files. Not idempotent: call `find_model` first."""
        body = {"experiment_id": experiment_id, "source_run_id": run_id, "name": name}
        return _model(self._call("POST", "logged-models", body)["model"])

    def finish_model(self, run_id: str, model_id: str) -> None:
        """Mark a model as complete. The page of the run then shows it."""
        self._call("POST", "runs/outputs", {"run_id": run_id, "models": [{"model_id": model_id, "step": 0}]})
        body = {"model_id": model_id, "status": "LOGGED_MODEL_READY"}
        self._call("PATCH", f"logged-models/{model_id}", body)

    def register_model(self, name: str, run_id: str, model_id: str) -> None:
        """Register the model of a run as a new version under a name, unless it is one already."""
        try:
            self._call("POST", "registered-models/create", {"name": name})
        except RejectedError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
        if self._find_version(name, run_id) is None:
            body = {"name": name, "source": f"models:/{model_id}", "run_id": run_id, "model_id": model_id}
            self._call("POST", "model-versions/create", body)

    def alias_model(self, name: str, alias: str, run_id: str) -> None:
        """Set an alias for the version of a registered model that belongs to a run, if there is one."""
        version = self._find_version(name, run_id)
        if version is not None:
            self._call("POST", "registered-models/alias", {"name": name, "alias": alias, "version": version})

    def _find_version(self, name: str, run_id: str) -> str | None:
        query = {"filter": f"run_id = '{run_id}'"}
        versions = self._call("GET", "model-versions/search", query=query).get("model_versions", [])
        return next((version["version"] for version in versions if version["name"] == name), None)

    def upload(self, run: Run | LoggedModel, path: str, content: bytes | Path) -> None:
        """Upload an artifact to its path in a run or model. Replaces an existing one."""
        if not run.artifact_uri.startswith(ARTIFACT_SCHEME):
            raise RejectedError(f"artifacts at {run.artifact_uri} are not served by the MLflow server", "UNSUPPORTED")
        root = run.artifact_uri.removeprefix(ARTIFACT_SCHEME).strip("/")
        url = f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{root}/{path}')}"
        if isinstance(content, bytes):
            self._send("PUT", url, content=content)
        else:
            with content.open("rb") as file:
                self._send("PUT", url, content=file)

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return dict(self._send(method, f"/api/2.0/mlflow/{path}", json=body, params=query).json())

    def _send(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        if self._interrupted.is_set():
            raise UnavailableError("the service is stopping")
        try:
            answer = self._http.request(method, url, extensions={"trace": self._trace}, **arguments)
        except httpx.TransportError as error:
            raise UnavailableError(str(error) or type(error).__name__) from error
        if answer.is_success:
            return answer
        if answer.is_server_error or answer.status_code in UNAVAILABLE:
            raise UnavailableError(f"{answer.status_code} {answer.reason_phrase}")
        problem = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
        raise RejectedError(str(problem.get("message", answer.text))[:LONGEST_TAG], str(problem.get("error_code", "")))

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        # A call blocks in `recv`. Only shutting down its socket interrupts it.
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = info["return_value"].get_extra_info("socket")
            if self._interrupted.is_set():  # while connecting
                self.interrupt()


def _entries(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value[:LONGEST_TAG]} for key, value in tags.items()]


def _run(answer: dict[str, Any]) -> Run:
    info = answer["info"]
    active = info["lifecycle_stage"] == "active"
    return Run(info["run_id"], info["experiment_id"], active, info["artifact_uri"])


def _model(answer: dict[str, Any]) -> LoggedModel:
    info = answer["info"]
    return LoggedModel(info["model_id"], info["artifact_uri"], info.get("status") == "LOGGED_MODEL_READY")
