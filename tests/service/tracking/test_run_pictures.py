"""Pictures are uploaded to a run once they are drawn. No other export waits for them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from service.analysis.artist import Artist, DrawingError, JobDrawing
from service.analysis.draw import write_pictures
from service.analysis.pictures import Pictures
from service.jobs.repository import create_job, finish_attempt, move, start_attempt
from service.jobs.states import State
from service.store.models import Event, Job
from service.tracking import MlflowExporter
from service.tracking.exporter import exports
from service.tracking.mlflow.api import LoggedModel, RejectedError, Run, UnavailableError
from tests.service.fixtures.support import hinge_job, wait_until
from tests.workers.fixtures.helpers import assignment, blobs, completed, job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.settings import Settings
    from service.store import Database

RUN = Run("r", "1", active=True, artifact_uri="mlflow-artifacts:/1")
MODEL = LoggedModel("m", "mlflow-artifacts:/2", ready=True)
PICTURES = Pictures({"graph.svg": b"<svg/>", "confusion_matrix.png": b"png"})


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


class Api:
    """MLflow's API. Uploads in `rejected` fail, and the first try of each upload in `lost`."""

    def __init__(self) -> None:
        self.uploads: list[str] = []
        self.ended = 0
        self.rejected: set[str] = set()
        self.lost: set[str] = set()

    def upload(self, _: object, path: str, __: object) -> None:
        if path in self.rejected:
            raise RejectedError("rejected", "RESOURCE_EXHAUSTED")
        if path in self.lost:
            self.lost.remove(path)
            raise UnavailableError("lost")
        self.uploads.append(path)

    def set_status(self, *_: object) -> None:
        self.ended += 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_: {"find_run": None, "experiment": "1", "find_model": MODEL}.get(name, RUN)

    def close(self) -> None:
        """Do nothing."""


class Drawings:
    """Replaces the drawing process. A drawing is finished when the test calls `finish`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[JobDrawing, Future[None]]] = []
        monkeypatch.setattr(Artist, "draw", lambda _, request: self._draw(request))

    def _draw(self, request: JobDrawing) -> Future[None]:
        self.requests.append((request, Future()))
        return self.requests[-1][1]

    def finish(self, directory: Path, pictures: Pictures = PICTURES) -> None:
        write_pictures(directory, pictures)
        self.requests[-1][1].set_result(None)


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> Drawings:
    return Drawings(monkeypatch)


@pytest.fixture
def api() -> Api:  # type: ignore[override]
    return Api()


@pytest.fixture
def exporter(database: Database, settings: Settings, api: Api) -> Iterator[MlflowExporter]:
    yield (made := exporter_of(database, settings, api))
    made.stop()


def exporter_of(database: Database, settings: Settings, api: Api) -> MlflowExporter:
    exporter = MlflowExporter(database, settings)
    exporter._exports = parts = exports(database, settings, api)  # type: ignore[arg-type]
    parts.mending.due = False
    return exporter


def ended_job(
    database: Database, settings: Settings, spec: dict[str, Any] | None = None, dataset: dict[str, Any] | None = None
) -> str:
    dataset = dataset or {"digest": "0" * 64, "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}
    with database.writing() as session:
        made, _ = create_job(session, spec=spec or hinge_job(), dataset=dataset, total_steps=100, body_sha256="b")
        attempt = start_attempt(session, made.id, "supervisor")
        move(session, made.id, from_=State.QUEUED, to=State.STARTING)
        move(session, made.id, from_=State.STARTING, to=State.RUNNING)
        finish_attempt(session, made.id, attempt, outcome=State.SUCCEEDED, reason=None)
        move(session, made.id, from_=State.RUNNING, to=State.SUCCEEDED, attempt=attempt)
        job_id = made.id
    settings.job_dir(job_id).mkdir(parents=True)
    return job_id


def is_finished(database: Database, job_id: str) -> bool:
    with database.reading() as session:
        return session.get_one(Job, job_id).mlflow_finished


def set_aside(database: Database) -> list[Any]:
    with database.reading() as session:
        return list(session.scalars(select(Event.data).where(Event.kind == "mlflow_set_aside")))


PICTURE_UPLOADS = ["pictures/confusion_matrix.png", "model/graph.svg"]


def test_only_the_end_of_the_run_waits_for_its_pictures(
    database: Database, settings: Settings, exporter: MlflowExporter, api: Api, drawings: Drawings
) -> None:
    job_id = ended_job(database, settings)
    for _ in range(3):
        assert exporter.step() > 0
        assert (api.uploads, api.ended) == (["model/spec.yaml"], 0)
    ((request, _),) = drawings.requests
    directory = settings.job_dir(job_id)
    assert (request.job, request.directory, request.spec) == (job_id, str(directory.absolute()), hinge_job())
    other = ended_job(database, settings)
    settings.job_dir(other).rmdir()  # a job that never ran has nothing to draw
    exporter.step()
    assert is_finished(database, other)
    assert not is_finished(database, job_id)
    api.uploads.clear()
    drawings.finish(directory)
    exporter.step()
    assert api.uploads == PICTURE_UPLOADS
    assert is_finished(database, job_id)
    assert set_aside(database) == []


def test_a_failed_drawing_is_recorded_and_the_run_ends(
    database: Database, settings: Settings, exporter: MlflowExporter, drawings: Drawings
) -> None:
    job_id = ended_job(database, settings)
    exporter.step()
    drawings.requests[0][1].set_exception(DrawingError("TIMEOUT", "it took too long"))
    exporter.step()
    assert is_finished(database, job_id)
    assert set_aside(database) == [{"entry": "pictures", "error_code": "TIMEOUT"}]


def test_a_picture_that_cannot_be_drawn_is_recorded_and_the_others_are_uploaded(
    database: Database, settings: Settings, exporter: MlflowExporter, api: Api, drawings: Drawings
) -> None:
    job_id = ended_job(database, settings)
    exporter.step()
    failures = {"learning_curves.png": "OSError: the history file is damaged"}
    drawings.finish(settings.job_dir(job_id), Pictures(PICTURES.files, failures))
    exporter.step()
    assert is_finished(database, job_id)
    assert api.uploads[-2:] == PICTURE_UPLOADS
    assert set_aside(database) == [{"entry": "pictures/learning_curves.png", "error_code": "FAILED"}]


def test_a_rejected_upload_is_recorded(
    database: Database, settings: Settings, exporter: MlflowExporter, api: Api, drawings: Drawings
) -> None:
    job_id = ended_job(database, settings)
    exporter.step()
    drawings.finish(settings.job_dir(job_id))
    api.rejected = {"pictures/confusion_matrix.png"}
    exporter.step()
    assert is_finished(database, job_id)
    assert set_aside(database) == [{"entry": "pictures", "error_code": "RESOURCE_EXHAUSTED"}]


def test_a_lost_response_draws_nothing_twice(
    database: Database, settings: Settings, exporter: MlflowExporter, api: Api, drawings: Drawings
) -> None:
    job_id = ended_job(database, settings)
    exporter.step()
    drawings.finish(settings.job_dir(job_id), Pictures(PICTURES.files, {"x.png": "failed"}))
    api.lost = {"model/graph.svg"}
    exporter.step()
    assert not is_finished(database, job_id)
    exporter.step()
    assert is_finished(database, job_id)
    assert api.uploads.count("model/spec.yaml") == 1
    assert len(drawings.requests) == 1
    assert len(set_aside(database)) == 1


def test_after_a_restart_only_unfinished_pictures_are_drawn_again(
    database: Database, settings: Settings, exporter: MlflowExporter, api: Api, drawings: Drawings
) -> None:
    drawn, cut_off = ended_job(database, settings), ended_job(database, settings)
    exporter.step()
    assert len(drawings.requests) == 2
    write_pictures(settings.job_dir(drawn), PICTURES)
    (settings.job_dir(cut_off) / ".pictures.partial").mkdir()
    successor = exporter_of(database, settings, api)
    successor.step()
    assert is_finished(database, drawn)
    assert [request.job for request, _ in drawings.requests[2:]] == [cut_off]
    drawings.finish(settings.job_dir(cut_off))
    successor.step()
    assert is_finished(database, cut_off)
    successor.stop()


@pytest.mark.parametrize("content", [b"", b"{", None])
def test_damaged_pictures_are_recorded(
    database: Database, settings: Settings, exporter: MlflowExporter, content: bytes | None
) -> None:
    job_id = ended_job(database, settings)
    place = settings.job_dir(job_id) / "pictures"
    place.mkdir()
    if content is not None:
        (place / "failures.json").write_bytes(content)
    exporter.step()
    assert is_finished(database, job_id)
    assert set_aside(database) == [{"entry": "pictures", "error_code": "DAMAGED"}]


def test_a_trained_job_gets_all_pictures(
    database: Database, settings: Settings, exporter: MlflowExporter, api: Api, tmp_path: Path
) -> None:
    given = assignment(job(), blobs(tmp_path, features=25), tmp_path / "job")
    job_id = ended_job(
        database,
        settings,
        dict(given.spec),
        asdict(given.dataset) | {"classes": ["0", "1", "2"], "name": "blobs", "version": 1},
    )
    settings.job_dir(job_id).rmdir()
    completed(replace(given, job=job_id, directory=settings.job_dir(job_id)))
    settings.dataset_dir.mkdir()
    Path(given.dataset.path).rename(settings.dataset_file(given.dataset.digest))
    wait_until(lambda: exporter.step() > 0 and is_finished(database, job_id), "the export is complete", 60)
    assert set_aside(database) == []
    assert {path for path in api.uploads if path.startswith("pictures/")} == {
        "pictures/learning_curves.png",
        "pictures/first_layer.png",
        "pictures/confusion_matrix.png",
        "pictures/margins_and_confidence.png",
    }
    assert "model/graph.svg" in api.uploads
    assert len(api.uploads) == len(set(api.uploads))
