"""Datasets are deleted unless a job that has not ended uses them, also if it is submitted at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import update

from service.datasets.files.workspace import remove_leftovers, workspace
from service.datasets.preparation.preparation import Selection
from service.datasets.repository import add_dataset, is_recorded
from service.jobs import routes
from service.jobs.datasets.deletion import delete_dataset
from service.jobs.states import TERMINAL, State
from service.store.models import Job
from service.sweeps import routes as sweep_routes
from service.sweeps.schemas import LOSSES_SWEEP
from tests.fixtures.prepared import prepared
from tests.service.fixtures.support import hinge_job, run, write_parquet
from workers.data.dataset import open_dataset

if TYPE_CHECKING:
    from service.client import Client
    from service.datasets.preparation.preparation import Prepared
    from service.settings import Settings
    from service.store import Database

ROUNDS = 8


@pytest.fixture
def content(settings: Settings) -> list[Prepared]:
    """Two contents that datasets can have."""
    found = []
    for seed in (0, 1):
        source = settings.allowed_roots[0] / f"{seed}.parquet"
        write_parquet(source, seed)
        found.append(prepared([source], settings.dataset_dir.absolute(), Selection()))
    return found


def add(database: Database, content: Prepared, name: str = "digits") -> int:
    with database.writing() as session:
        return add_dataset(session, name=name, selection=Selection(), source="x", prepared=content)[0].version


def names(api: httpx.Client) -> list[str]:
    return [f"{each['name']}@{each['version']}" for each in api.get("/v1/datasets").json()["data"]]


def files(settings: Settings) -> set[str]:
    return {path.name for path in settings.dataset_dir.iterdir()}


def submit(api: httpx.Client, dataset: str = "digits") -> httpx.Response:
    return api.post("/v1/jobs", json=hinge_job(**{"data.dataset": dataset}), timeout=60)


def move_to(database: Database, job_id: str, state: State) -> None:
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(state=state))


def test_a_dataset_is_deleted_with_all_its_versions_and_files(
    api: httpx.Client, settings: Settings, database: Database, content: list[Prepared]
) -> None:
    assert [add(database, each) for each in content] == [1, 2]
    open_dataset(content[0].info)  # which notes beside the file that it was checked
    assert len(files(settings)) == 3
    answer = api.delete("/v1/datasets/digits")
    assert (answer.status_code, answer.content) == (204, b"")
    assert names(api) == []
    assert files(settings) == set()
    for again in (api.delete("/v1/datasets/digits"), api.get("/v1/datasets/digits"), api.delete("/v1/datasets/a@1")):
        assert again.status_code == 404
    assert files(settings) == set(), "a refused request leaves nothing"


def test_one_version_is_deleted_and_its_number_is_not_used_again(
    api: httpx.Client, settings: Settings, database: Database, content: list[Prepared]
) -> None:
    first, second = content
    assert (add(database, first), add(database, second)) == (1, 2)
    assert api.delete("/v1/datasets/digits@2").status_code == 204
    assert names(api) == ["digits@1"]
    assert files(settings) == {f"{first.info.digest}.arrow"}
    assert api.get("/v1/datasets/digits@2").status_code == 404
    again = prepared([settings.allowed_roots[0] / "1.parquet"], settings.dataset_dir.absolute(), Selection())
    assert add(database, again) == 3
    assert api.delete("/v1/datasets/digits").status_code == 204
    assert add(database, first) == 4


def test_a_file_is_kept_while_another_dataset_has_its_content(
    api: httpx.Client, settings: Settings, database: Database, content: list[Prepared]
) -> None:
    add(database, content[0])
    add(database, content[0], name="copy")
    assert api.delete("/v1/datasets/digits").status_code == 204
    assert f"{content[0].info.digest}.arrow" in files(settings)
    assert api.get("/v1/datasets/copy/preview", timeout=60).status_code == 200
    assert api.delete("/v1/datasets/copy").status_code == 204
    assert f"{content[0].info.digest}.arrow" not in files(settings)


@pytest.mark.parametrize("state", [state.value for state in State if state not in TERMINAL])
def test_a_dataset_that_a_job_uses_is_not_deleted(
    api: httpx.Client, settings: Settings, database: Database, content: list[Prepared], state: str
) -> None:
    add(database, content[0])
    job_id = submit(api).json()["id"]
    move_to(database, job_id, State(state))
    add(database, content[1])
    before = files(settings)
    for name in ("digits", "digits@1"):
        answer = api.delete(f"/v1/datasets/{name}")
        assert answer.status_code == 409
        assert f"{name!r} is used by {job_id}, which is {state}: cancel" in answer.json()["detail"]
    assert (names(api), files(settings)) == (["digits@2"], before)
    assert api.delete("/v1/datasets/digits@2").status_code == 204, "a version that no job uses"


def test_members_of_a_sweep_are_counted(api: httpx.Client, database: Database, content: list[Prepared]) -> None:
    add(database, content[0])
    sweep = api.post("/v1/sweeps", json=LOSSES_SWEEP, timeout=60).json()
    detail = api.delete("/v1/datasets/digits").json()["detail"]
    assert f"(of {sweep['id']}), which is queued, and 11 other jobs that have not ended: cancel" in detail
    assert api.post(f"/v1/sweeps/{sweep['id']}/cancel").status_code == 202
    assert api.delete("/v1/datasets/digits").status_code == 204


def test_an_ended_job_keeps_its_snapshot_and_says_that_the_dataset_was_deleted(
    api: httpx.Client, database: Database, content: list[Prepared]
) -> None:
    add(database, content[0])
    job_id = submit(api).json()["id"]
    of_job = {"name": "digits", "version": 1, "digest": content[0].info.digest}
    assert api.get(f"/v1/jobs/{job_id}").json()["dataset"] == {**of_job, "deleted": False}
    assert api.post(f"/v1/jobs/{job_id}/cancel").is_success
    assert api.delete("/v1/datasets/digits").status_code == 204
    assert api.get(f"/v1/jobs/{job_id}").json()["dataset"] == {**of_job, "deleted": True}
    assert api.get("/v1/jobs").json()["data"][0]["dataset"] == {**of_job, "deleted": None}
    assert submit(api).json()["errors"][0]["field"] == "data.dataset"
    move_to(database, job_id, State.SUCCEEDED)
    certificate = api.get(f"/v1/jobs/{job_id}/certificate")
    assert certificate.status_code == 409


def test_a_dataset_that_is_deleted_while_a_job_is_submitted(
    api: httpx.Client, database: Database, content: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check of the job and its transaction."""

    def then_deleted(check: Any) -> Any:
        def checked(*arguments: Any) -> Any:
            found = check(*arguments)
            with database.writing() as session:
                delete_dataset(session, "digits")
            return found

        return checked

    for module, name, path, body, field in (
        (routes, "check_job", "/v1/jobs", hinge_job(), "data.dataset"),
        (sweep_routes, "members_of", "/v1/sweeps", LOSSES_SWEEP, "base.data.dataset"),
    ):
        version = add(database, content[0])
        with monkeypatch.context() as patched:
            patched.setattr(module, name, then_deleted(getattr(module, name)))
            answer = api.post(path, json=body, timeout=60)
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert error == {"field": field, "message": f"digits@{version} was deleted while the job was submitted"}
        assert api.get(path).json()["data"] == []


def test_a_dataset_is_not_deleted_while_the_transaction_of_a_job_is_open(
    api: httpx.Client, database: Database, content: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(database, content[0])
    begun, answers = threading.Event(), []
    check_room = routes.check_room

    def delete() -> None:
        begun.set()
        with httpx.Client(base_url=api.base_url, timeout=60) as client:
            answers.append(client.delete("/v1/datasets/digits"))

    deleting = threading.Thread(target=delete)

    def with_deletion(*arguments: Any) -> None:
        deleting.start()
        assert begun.wait(20)
        deleting.join(0.5)  # it has to wait for this transaction
        assert answers == []
        check_room(*arguments)

    monkeypatch.setattr(routes, "check_room", with_deletion)
    assert submit(api).status_code == 201
    deleting.join()
    assert [answer.status_code for answer in answers] == [409]
    assert names(api) == ["digits@1"]


def test_either_the_job_or_the_deletion_wins(
    api: httpx.Client, database: Database, content: list[Prepared], settings: Settings
) -> None:
    outcomes = []
    for _ in range(ROUNDS):
        content[0] = prepared([settings.allowed_roots[0] / "0.parquet"], settings.dataset_dir.absolute(), Selection())
        add(database, content[0])
        barrier = threading.Barrier(2)

        def at_once(request: Any, barrier: threading.Barrier = barrier) -> httpx.Response:
            barrier.wait()
            return request()

        with ThreadPoolExecutor(2) as pool:
            requests = [partial(submit, api), partial(api.delete, "/v1/datasets/digits", timeout=60)]
            job, deletion = pool.map(at_once, requests)
        outcomes.append((job.status_code, deletion.status_code))
        if job.status_code == 201:
            assert api.post(f"/v1/jobs/{job.json()['id']}/cancel").is_success
            assert api.get(f"/v1/jobs/{job.json()['id']}").json()["dataset"]["deleted"] is False
            assert api.delete("/v1/datasets/digits").status_code == 204
    assert set(outcomes) <= {(201, 409), (422, 204)}, outcomes


def test_a_file_that_a_registration_may_have_found_is_removed_later(
    api: httpx.Client, settings: Settings, database: Database, content: list[Prepared]
) -> None:
    add(database, content[0])
    with workspace(settings.dataset_dir.absolute()):
        assert api.delete("/v1/datasets/digits").status_code == 204
        assert f"{content[0].info.digest}.arrow" in files(settings), "the registration may record it"
    add(database, content[1])
    assert api.delete("/v1/datasets/digits").status_code == 204
    assert files(settings) == set(), "the next deletion removes both"

    (again,) = [prepared([settings.allowed_roots[0] / "0.parquet"], settings.dataset_dir.absolute(), Selection())]
    add(database, again)
    with workspace(settings.dataset_dir.absolute()):
        assert api.delete("/v1/datasets/digits").status_code == 204
        add(database, again, name="found")
    remove_leftovers(settings.dataset_dir, partial(is_recorded, database))
    assert files(settings) == {f"{again.info.digest}.arrow"}, "another registration has recorded it"


def test_client_and_command(client: Client, url: str, database: Database, content: list[Prepared]) -> None:
    add(database, content[0])
    add(database, content[1])
    done = run(url, "datasets", "delete", "digits@1")
    assert (done.exit_code, done.stdout) == (0, "digits@1 deleted\n")
    job = client.submit(hinge_job())
    refused = run(url, "datasets", "delete", "digits")
    assert (refused.exit_code, f"is used by {job.id}" in refused.stderr) == (1, True)
    job.cancel()
    client.delete_dataset("digits")
    assert client.datasets() == []
    assert job.refresh()["dataset"]["deleted"] is True
