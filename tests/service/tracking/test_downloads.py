"""The files of a job over REST: the same bytes as in MLflow, in bounded memory, and nothing else of the machine."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import shutil
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from service.access.tokens import Role
from service.analysis.draw import write_pictures
from service.analysis.pictures import Pictures
from service.client import Client, DownloadError
from service.stack.app import create_app
from service.store.models import Job
from service.tracking.artifacts import downloads
from service.tracking.artifacts.downloads import Artifact
from service.tracking.artifacts.zipped import zipped
from service.tracking.model.gradfleet_pyfunc import _load_pyfunc
from tests.service.fixtures.exported_jobs import (
    export_all,
    models_of,
    queue_job,
    record_of,
    run_job,
    trained_job,
)
from tests.service.fixtures.models import BEST, rows, scores_of
from tests.service.fixtures.support import run, served
from tests.workers.fixtures.helpers import STEP_SERIES, history_of
from workers.record.history_files import append_history

if TYPE_CHECKING:
    from pathlib import Path

    from service.settings import Settings
    from service.store import Database
    from service.tracking import MlflowExporter
    from tests.service.fakes.mlflow_server import MlflowServer

PICTURES = Pictures({"graph.svg": b"<svg/>", "confusion_matrix.png": b"png"}, {"margins_and_confidence.png": "no room"})
# Path of the API: path in the run, or in the model, of MLflow.
IN_MLFLOW = {
    "spec.yaml": "model/spec.yaml",
    "evaluation.json": "model/evaluation.json",
    "history.parquet": "history/history.parquet",
    "checkpoint/model.safetensors": "model/model.safetensors",
    "checkpoint/checkpoint.json": "model/checkpoint.json",
    "pictures/graph.svg": "model/graph.svg",
    "pictures/confusion_matrix.png": "pictures/confusion_matrix.png",
}
OF_MODEL = {"model/model.json": "data/model.json", "model/weights.safetensors": "data/weights.safetensors"}


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def record_history(settings: Settings, job_id: str, first: int, last: int) -> None:
    history = history_of(first - 1, last)
    for step in range(first, last + 1):
        history.record_step(step, (1 / step,) * len(STEP_SERIES))
    append_history(settings.job_dir(job_id), history.unkept())


@pytest.fixture
def trained(database: Database, settings: Settings) -> str:
    """A job that has succeeded, with everything but a certificate, since it has no milestones."""
    job_id = trained_job(database, settings)
    record_history(settings, job_id, 1, 500)
    with database.writing() as session:
        job = session.get_one(Job, job_id)
        job.kept, job.evaluation = {"step": 4, "epoch": 2, "metrics": {"val/loss": 0.5}}, {"confusion": [[1]]}
    write_pictures(settings.job_dir(job_id), PICTURES)
    return job_id


def listed(api: httpx.Client, job_id: str, **query: Any) -> dict[str, dict[str, Any]]:
    answer = api.get(f"/v1/jobs/{job_id}/artifacts", params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return {each["path"]: each for each in answer.json()["data"]}


def content(api: httpx.Client, job_id: str, path: str) -> httpx.Response:
    return api.get(f"/v1/jobs/{job_id}/artifacts/{path}")


def test_the_list_says_what_each_file_is(api: httpx.Client, trained: str) -> None:
    found = listed(api, trained)
    assert found.keys() == IN_MLFLOW.keys() | OF_MODEL.keys()
    for path, entry in found.items():
        answer = content(api, trained, path)
        assert answer.status_code == 200, path
        assert (len(answer.content), hashlib.sha256(answer.content).hexdigest()) == (entry["size"], entry["sha256"])
        assert answer.headers["etag"] == f'"{entry["sha256"]}"'
        assert answer.headers["content-length"] == str(entry["size"])
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == f'attachment; filename="{path.rpartition("/")[2]}"'
    missing = api.get(f"/v1/jobs/{trained}/artifacts").json()["missing"]
    assert found["spec.yaml"]["media_type"] == "application/yaml"
    assert found["pictures/confusion_matrix.png"]["media_type"] == "image/png"
    certificate, picture = missing
    assert (certificate["kind"], certificate["path"]) == ("certificate", None)
    assert "milestones were not recorded" in certificate["reason"]
    assert picture == {"kind": "pictures", "path": "pictures/margins_and_confidence.png", "reason": "no room"}
    refused = content(api, trained, "pictures/margins_and_confidence.png")
    assert (refused.status_code, "cannot be given: no room" in refused.json()["detail"]) == (409, True)
    assert listed(api, trained, kind=["spec", "model"]).keys() == {"spec.yaml", *OF_MODEL}


def test_the_downloaded_model_predicts_and_the_rest_is_what_it_says(
    api: httpx.Client, trained: str, tmp_path: Path
) -> None:
    for path in OF_MODEL:
        (tmp_path / path.rpartition("/")[2]).write_bytes(content(api, trained, path).content)
    assert _load_pyfunc(str(tmp_path)).predict(rows(9))["scores"].tobytes() == scores_of(rows(9), BEST).tobytes()
    history = pq.read_table(io.BytesIO(content(api, trained, "history.parquet").content))
    assert history.column("step").to_pylist() == list(range(1, 501))
    spec = yaml.safe_load(content(api, trained, "spec.yaml").content)
    assert spec == api.get(f"/v1/jobs/{trained}").json()["spec"]
    assert json.loads(content(api, trained, "evaluation.json").content)["confusion"] == [[1]]


@pytest.fixture
def exported(trained: str, exporter: MlflowExporter) -> str:
    export_all(exporter)
    return trained


class TestInMlflow:
    @pytest.fixture
    def mlflow_url(self, mlflow: MlflowServer) -> str:
        return mlflow.url

    def test_mlflow_has_the_same_bytes(
        self, api: httpx.Client, exported: str, database: Database, mlflow: MlflowServer
    ) -> None:
        run_id = record_of(database, exported).run_id
        (model,) = models_of(mlflow, record_of(database, exported))
        for path, place in IN_MLFLOW.items():
            there = httpx.get(f"{mlflow.url}/get-artifact", params={"run_id": run_id, "path": place})
            assert there.content == content(api, exported, path).content, path
        for path, place in OF_MODEL.items():
            uri = f"{mlflow.url}/ajax-api/2.0/mlflow/logged-models/{model['info']['model_id']}/artifacts/files"
            there = httpx.get(uri, params={"artifact_file_path": place}).raise_for_status()
            assert there.content == content(api, exported, path).content, path


def test_a_file_that_is_known_is_not_sent_again(api: httpx.Client, trained: str) -> None:
    first = content(api, trained, "model/weights.safetensors")
    url = f"/v1/jobs/{trained}/artifacts/model/weights.safetensors"
    for tag in (first.headers["etag"], f'"x", W/{first.headers["etag"]}'):
        again = api.get(url, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert api.get(url, headers={"If-None-Match": f'"{"0" * 64}"'}).content == first.content
    assert api.get(url, headers={"Range": "bytes=0-3"}).content == first.content, "ranges are not supported"
    head = api.head(url)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])


def test_a_zip_has_all_files(api: httpx.Client, trained: str) -> None:
    answer = api.get(f"/v1/jobs/{trained}/artifacts.zip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == f'attachment; filename="{trained}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == {
            f"{trained}/{path}": content(api, trained, path).content for path in listed(api, trained)
        }
    again = api.get(f"/v1/jobs/{trained}/artifacts.zip")
    assert again.content == answer.content
    some = api.get(f"/v1/jobs/{trained}/artifacts.zip", params={"kind": "pictures"}).content
    assert len(zipfile.ZipFile(io.BytesIO(some)).namelist()) == 2


def test_a_zip_takes_no_memory_for_its_size(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    size = 64 * 2**20
    with weights.open("wb") as file:
        file.truncate(size)
    both = [Artifact(f"{kind}/w.safetensors", kind, weights, size, "") for kind in ("model", "checkpoint")]
    tracemalloc.start()
    sent = sum(len(piece) for piece in zipped(both, "job"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent > 2 * size
    assert peak < 8 * 2**20, "a few pieces of 1 MiB"


def test_a_job_that_runs_has_what_is_there_so_far(api: httpx.Client, database: Database, settings: Settings) -> None:
    waiting = queue_job(database)
    assert listed(api, waiting).keys() == {"spec.yaml"}
    assert api.get(f"/v1/jobs/{waiting}/artifacts").json()["missing"] == []
    assert content(api, waiting, "model/weights.safetensors").status_code == 404
    answer = api.get(f"/v1/jobs/{waiting}/artifacts.zip", params={"kind": "model"}, timeout=60)
    assert (answer.status_code, "or not yet" in answer.json()["detail"]) == (404, True)

    running = run_job(database, [])
    record_history(settings, running, 1, 10)
    first = content(api, running, "history.parquet")
    assert pq.read_table(io.BytesIO(first.content)).num_rows == 10
    record_history(settings, running, 11, 30)
    second = content(api, running, "history.parquet")
    assert pq.read_table(io.BytesIO(second.content)).num_rows == 30
    assert first.headers["etag"] != second.headers["etag"]
    assert len(list((settings.job_dir(running) / "downloads").iterdir())) == 1, "the older file is removed"


def test_a_checkpoint_that_is_replaced_while_it_is_read(
    api: httpx.Client, trained: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler's workers remove older checkpoints: the request then finds the newer one."""
    (place,) = (settings.job_dir(trained) / "checkpoints").iterdir()
    read, seen = downloads.read_header, []

    def replaced(*arguments: Any) -> Any:
        header = read(*arguments)
        if not seen:
            seen.append(place)
            place.rename(place.with_name(f"{7:012d}"))
        return header

    monkeypatch.setattr(downloads, "read_header", replaced)
    assert content(api, trained, "checkpoint/model.safetensors").status_code == 200
    assert seen


@pytest.mark.parametrize(
    "path",
    [
        "", "x", "model", "model/", "model/x", "../../gradfleet.db", "%2e%2e/%2e%2e/gradfleet.db", "model/../spec.yaml",
        "model/..%2f..%2f..%2f..%2fgradfleet.db", "/etc/passwd", "%2fetc%2fpasswd", "model%2f%00", "model//model.json",
        "checkpoint/optimizer.safetensors", "checkpoint/best.safetensors", "pictures/failures.json", "spec.yaml/x",
        "history-x.parquet", "..", "%c0%ae%c0%ae/x", "pictures/graph.svg%00", "model/" + "x" * 3000,
    ],
)  # fmt: skip
def test_a_path_gives_only_what_is_listed(url: str, trained: str, path: str) -> None:
    # A connection of its own, since the client would shorten such paths.
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", f"/v1/jobs/{trained}/artifacts/{path}")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 404, text
    assert len(text) < 2000
    assert "Traceback" not in text


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_file_is_refused_by_name(api: httpx.Client, trained: str, settings: Settings, damage: str) -> None:
    (file,) = settings.job_dir(trained).glob("checkpoints/*/best.safetensors")
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 1
    match damage:
        case "changed":
            file.write_bytes(whole)
        case "cut":
            file.write_bytes(whole[:100])
        case "gone":
            file.unlink()
    answer = content(api, trained, "model/weights.safetensors")
    zip_answer = api.get(f"/v1/jobs/{trained}/artifacts.zip")
    if damage == "gone":
        assert (answer.status_code, zip_answer.status_code) == (503, 503)
    else:
        assert (answer.status_code, zip_answer.status_code) == (409, 409)
        assert "model/weights.safetensors is damaged" in answer.json()["detail"]
        assert "model/weights.safetensors is damaged" in zip_answer.json()["detail"]
    assert str(settings.data_dir) not in answer.text + zip_answer.text
    assert content(api, trained, "checkpoint/model.safetensors").status_code == 200, "the other files are given"
    assert content(api, trained, "history.parquet").status_code == 200


def test_a_damaged_description_is_listed_as_missing(api: httpx.Client, trained: str, settings: Settings) -> None:
    (file,) = settings.job_dir(trained).glob("checkpoints/*/checkpoint.json")
    file.write_text(file.read_text().replace('"step": 6', '"step": 5'))
    (history,) = settings.job_dir(trained).glob("history/*.arrow")
    history.write_bytes(history.read_bytes()[:1000])
    answer = api.get(f"/v1/jobs/{trained}/artifacts").json()
    reasons = {each["kind"]: each["reason"] for each in answer["missing"]}
    assert reasons.keys() == {"model", "checkpoint", "history", "certificate", "pictures"}
    assert "checkpoint.json does not have its checksum" in reasons["model"]
    assert "is damaged" in reasons["history"] or "cannot be read" in reasons["history"]
    assert str(settings.data_dir) not in json.dumps(answer)
    refused = content(api, trained, "history.parquet")
    assert (refused.status_code, "history.parquet of job" in refused.json()["detail"]) == (409, True)
    assert content(api, trained, "spec.yaml").status_code == 200


def test_a_deleted_job_has_no_files(api: httpx.Client, trained: str) -> None:
    assert api.delete(f"/v1/jobs/{trained}").status_code == 204
    for path in ("artifacts", "artifacts.zip", "artifacts/spec.yaml"):
        assert api.get(f"/v1/jobs/{trained}/{path}").status_code == 404, path


def test_a_job_that_is_deleted_while_its_files_are_listed(
    api: httpx.Client, trained: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted(*_: Any) -> Any:
        shutil.rmtree(settings.job_dir(trained), ignore_errors=True)
        assert api.delete(f"/v1/jobs/{trained}").status_code in {204, 404}
        raise FileNotFoundError

    monkeypatch.setattr(downloads, "read_header", deleted)
    assert api.get(f"/v1/jobs/{trained}/artifacts").status_code == 404


def test_the_role_read_is_enough(settings: Settings, database: Database, trained: str, tokens: dict[Role, str]) -> None:
    guarded = settings.model_copy(update={"require_token": True})
    with served(create_app(guarded, database=database)) as url:
        for path in ("artifacts", "artifacts.zip", "artifacts/spec.yaml"):
            address = f"{url}/v1/jobs/{trained}/{path}"
            assert httpx.get(address).status_code == 401
            headers = {"Authorization": f"Bearer {tokens[Role.READ]}"}
            assert httpx.get(address, headers=headers).status_code == 200


def test_the_command_saves_the_files(url: str, trained: str, tmp_path: Path, api: httpx.Client) -> None:
    done = run(url, "download", trained, "-o", str(tmp_path / "here"), "--only", "model", "--only", "spec")
    assert done.exit_code == 0, done.output
    names = {str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert names == {"spec.yaml", *OF_MODEL}
    assert (tmp_path / "here" / "spec.yaml").read_bytes() == content(api, trained, "spec.yaml").content
    assert str(tmp_path / "here" / "model" / "model.json") in done.stdout
    everything = run(url, "download", trained, "-o", str(tmp_path / "here"))
    assert everything.exit_code == 0
    assert "warning: pictures/margins_and_confidence.png: no room" in everything.stderr
    found = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert len(found) == len(IN_MLFLOW | OF_MODEL), "no file is left over"
    nothing = run(url, "download", trained, "-o", str(tmp_path / "none"), "--only", "certificate")
    assert (nothing.exit_code, (tmp_path / "none").exists()) == (1, False)


def test_the_client_fetches_only_what_has_changed(client: Client, trained: str, tmp_path: Path) -> None:
    job = client.job(trained)
    saved = job.download(tmp_path, ["model"])
    assert [path.relative_to(tmp_path).as_posix() for path in saved] == list(OF_MODEL)
    before = {path: path.stat().st_ino for path in saved}
    saved[0].write_bytes(b"changed")
    assert job.download(tmp_path, ["model"]) == saved
    assert {path: path.stat().st_ino == inode for path, inode in before.items()} == {saved[0]: False, saved[1]: True}
    assert _load_pyfunc(str(tmp_path / "model")).predict(rows(3))["label"].shape == (3,)


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "a/../../x", "", "C:\\x", "a\\..\\x", "a\0"])
def test_a_service_that_names_another_place_is_not_believed(
    client: Client, trained: str, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.job(trained)
    entry = {"path": path, "kind": "spec", "size": 1, "sha256": "0" * 64, "media_type": "x"}
    monkeypatch.setattr(type(job), "artifacts", lambda *_: {"data": [entry], "missing": []})
    with pytest.raises(DownloadError, match="not a path below"):
        job.download(tmp_path / "here")
    assert list(tmp_path.glob("x")) == []


def test_a_file_that_is_damaged_on_its_way(
    client: Client, trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tracking.artifacts.routes.pieces", lambda artifact, _: iter([b"x" * artifact.size]))
    with pytest.raises(DownloadError, match=r"spec\.yaml was damaged"):
        client.job(trained).download(tmp_path / "here", ["spec"])
    assert list((tmp_path / "here").iterdir()) == []
