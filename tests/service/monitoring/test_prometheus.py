from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import delete

from service.jobs.actions import apply_action
from service.jobs.recording import record_events
from service.jobs.repository import create_job, move, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import Action, State
from service.monitoring.prometheus import Exposition
from service.scheduling.scheduler import Scheduler
from service.stack.app import create_app
from service.store import Database
from service.store.models import Event, Job
from service.telemetry.instruments import REGISTRY, REQUEST_DURATION, REQUESTS
from service.tracking import MlflowExporter
from tests.service.fakes.cluster import FakeCluster
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import free_port, hinge_job, served, wait_until
from workers.job.spec import JobSpec
from workers.record.events import Ended, Noted, Progress, Restarted, Series, Started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from prometheus_client import Metric

    from service.settings import Settings

DATASET = {"digest": "00", "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}
STARTED = Started(step=0, workers=2, fingerprint={}, changed={})


@pytest.fixture
def scheduler(database: Database, settings: Settings, cluster: FakeCluster) -> Iterator[Scheduler]:
    scheduler = Scheduler(database, settings, cluster)
    yield scheduler
    scheduler.stop()


def add_job(database: Database) -> str:
    spec = JobSpec.model_validate(hinge_job()).model_dump(mode="json")
    with database.writing() as session:
        return create_job(session, spec=spec, dataset=DATASET, total_steps=40, body_sha256="b")[0].id


def run_job(database: Database) -> tuple[str, int]:
    """A running job and its attempt."""
    job_id = add_job(database)
    with database.writing() as session:
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        number = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=number)
    return job_id, number


def progress(step: int, **series: float) -> Progress:
    names = {"train/loss": 0.5} | {f"time/{name}": value for name, value in series.items()}
    points = {name: Series(np.array([step]), np.array([value]), np.array([1000])) for name, value in names.items()}
    return Progress(epoch=0, step=step, series=points)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"gradfleet_{name}", labels) or 0.0


def database_metric(database: Database, name: str) -> float:
    """A metric that a scrape reads from the database."""
    (value,) = (
        sample.value
        for family in Exposition(database).collect()
        for sample in family.samples
        if sample.name == f"gradfleet_{name}"
    )
    return float(value)


def scrape(api: httpx.Client) -> list[Metric]:
    answer = api.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return list(text_string_to_metric_families(answer.raise_for_status().text))


@pytest.mark.usefixtures("digits")
def test_names_and_units_follow_the_conventions(api: httpx.Client) -> None:
    families = scrape(api)
    own = [family for family in families if family.name.startswith("gradfleet_")]
    assert len(own) > 15
    assert [family for family in families if not family.name.startswith(("gradfleet_", "process_"))] == []
    for family in own:
        assert family.documentation.endswith("."), family.name
        assert family.type in {"counter", "gauge", "histogram"}, family.name
        assert not any(part in family.name.split("_") for part in ("ms", "milliseconds", "minutes", "kb", "percent"))
        assert (family.type == "histogram") <= family.name.endswith("_seconds"), family.name
        totals = [sample.name.endswith("_total") for sample in family.samples]
        assert all(totals) if family.type == "counter" else not any(totals), family.name
    assert not any(family.name.endswith("_created") for family in families)


def test_label_values_are_limited(api: httpx.Client, app: FastAPI) -> None:
    for instrument in (REQUESTS, REQUEST_DURATION):
        instrument.clear()  # other tests used routes of their own
    for number in range(5):
        api.get(f"/v1/jobs/job_{number}?state=running")
        api.get(f"/elsewhere/{number}")
        api.request("PROPFIND", "/v1/jobs")
    known = {
        "method": {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"},
        "route": {"unmatched", *app.openapi()["paths"]},
        "status": {str(status) for status in range(100, 600)},
        "state": set(State),
    }
    for family in scrape(api):
        for entry in family.samples:
            for label, value in entry.labels.items():
                if label in {"le", "python", "gradfleet", "numpy", "ray"}:
                    continue
                assert value in known[label], (entry.name, label)


def test_jobs_by_state(api: httpx.Client, database: Database) -> None:
    for _ in range(3):
        add_job(database)
    run_job(database)
    (jobs,) = (family for family in scrape(api) if family.name == "gradfleet_jobs")
    found = {entry.labels["state"]: entry.value for entry in jobs.samples}
    assert found == dict.fromkeys(State, 0.0) | {"queued": 3.0, "running": 1.0}


def test_counters_are_kept_when_events_are_deleted(database: Database, settings: Settings) -> None:
    names = ("job_restarts_total", "determinism_violations_total", "refused_messages_total")
    assert [database_metric(database, name) for name in names] == [0, 0, 0]
    job_id, number = run_job(database)
    rejected = Noted("messages_refused", {"worker": 1, "another key": 2, "another step": 3})
    events = list(enumerate([Restarted("worker_lost", "gone"), rejected, Noted("room", {"workers": 1})], 1))
    with database.writing() as session:
        record_points(session, job_id, number, [Point("train/loss", step, 0.5, 1) for step in (1, 2)])
        record_points(session, job_id, number, [Point("train/loss", step, 0.25, 1) for step in (1, 2)])
        record_events(session, job_id, number, events)
        record_events(session, job_id, number, events)  # events that were written before
        record_events(session, job_id, number, [(4, Ended("lost", "cluster_lost"))])
    assert [database_metric(database, name) for name in names] == [2, 2, 5]
    with database.writing() as session:
        session.execute(delete(Event))  # deleting a job deletes its events
    again = Database(settings.database)  # another process with the same database
    assert [database_metric(again, name) for name in names] == [2, 2, 5]
    again.close()


def test_rolled_back_events_are_not_counted(database: Database) -> None:
    job_id, number = run_job(database)

    def restart_and_fail() -> None:
        with database.writing() as session:
            record_events(session, job_id, number, [(1, Restarted("worker_lost", "gone"))])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        restart_and_fail()
    assert database_metric(database, "job_restarts_total") == 0


def test_metrics_and_logs_of_a_job(
    database: Database, scheduler: Scheduler, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("job_queue_wait_seconds_count", "job_first_loss_seconds_count", "training_steps_total")
    before = [sample(name) for name in names]
    times = sample("training_step_seconds_count"), sample("training_step_seconds_sum")
    exchanges = sample("exchange_seconds_count"), sample("exchange_seconds_sum")
    passes = sample("scheduler_pass_seconds_count")
    job_id = add_job(database)
    caplog.set_level("INFO", logger="service")
    started = time.time()
    scheduler.start()
    wait_until(lambda: cluster.attempts, "an attempt started")
    attempt = cluster.attempts[0]
    attempt.report(STARTED)
    attempt.report(progress(4))
    attempt.report(progress(7, step_ms=250.0, exchange_ms=50.0), progress(6), Ended("succeeded", "completed"))
    wait_until(lambda: ended(database, job_id), "the job has ended")
    wait_until(lambda: sample("training_steps_total") == before[2] + 7, "the steps are counted")
    assert [sample(name) for name in names] == [before[0] + 1, before[1] + 1, before[2] + 7]
    assert (sample("training_step_seconds_count"), sample("training_step_seconds_sum")) == (
        times[0] + 1,
        pytest.approx(times[1] + 0.25),
    )
    assert (sample("exchange_seconds_count"), sample("exchange_seconds_sum")) == (
        exchanges[0] + 1,
        pytest.approx(exchanges[1] + 0.05),
    )
    assert sample("scheduler_pass_seconds_count") > passes
    assert started <= sample("scheduler_last_pass_timestamp_seconds") <= time.time()
    records = [record for record in caplog.records if getattr(record, "job_id", None) == job_id]
    assert [record.getMessage() for record in records] == [
        f"job {job_id} starts",
        "the attempt has ended: succeeded, completed",
    ]
    assert {getattr(record, "attempt", None) for record in records} == {1}


def ended(database: Database, job_id: str) -> bool:
    with database.reading() as session:
        job = session.get(Job, job_id)
        return job is not None and State(job.state).terminal


def test_the_wait_starts_when_the_job_returns_to_the_queue(
    database: Database, scheduler: Scheduler, cluster: FakeCluster
) -> None:
    job_id = add_job(database)
    with database.writing() as session:
        apply_action(session, job_id, Action.PAUSE)
    wait_until(lambda: age(database, job_id) > 0.3, "the job is 0.3 s old")
    before = sample("job_queue_wait_seconds_sum")
    with database.writing() as session:
        apply_action(session, job_id, Action.RESUME)
    scheduler.start()
    wait_until(lambda: cluster.attempts, "an attempt started")
    wait_until(lambda: sample("job_queue_wait_seconds_sum") > before, "the wait is recorded")
    assert sample("job_queue_wait_seconds_sum") - before < age(database, job_id) - 0.3


def age(database: Database, job_id: str) -> float:
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
        return time.time() - job.created_at.timestamp()


def test_failed_passes_are_counted(scheduler: Scheduler, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sample("scheduler_failed_passes_total")
    monkeypatch.setattr(cluster, "failed", lambda: 1 / 0)
    scheduler.start()
    wait_until(lambda: sample("scheduler_failed_passes_total") >= before + 2, "two passes failed")


def test_backlog_of_the_mlflow_export(database: Database, settings: Settings) -> None:
    job_id, number = run_job(database)
    minute_ago = int(1000 * (time.time() - 60))
    points = [Point("train/loss", step, 0.5, minute_ago) for step in range(5)]
    with database.writing() as session:
        record_points(session, job_id, number, points)
    without_server = settings.model_copy(update={"mlflow_url": SecretStr(f"http://127.0.0.1:{free_port()}")})
    exporter = MlflowExporter(database, without_server)
    exporter.start()
    wait_until(lambda: sample("mlflow_unexported_points") == 5, "five points are not exported")
    assert 60 <= sample("mlflow_unexported_seconds") <= time.time() - minute_ago / 1000
    exporter.stop()
    assert (sample("mlflow_unexported_points"), sample("mlflow_unexported_seconds")) == (0, 0)


def test_without_a_database_only_process_metrics_are_exported(settings: Settings) -> None:
    lost = Database(f"sqlite:///{settings.data_dir}/not/there.db")
    with served(create_app(settings, database=lost)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        names = {family.name for family in scrape(client)}
    lost.close()
    assert "gradfleet_http_requests" in names
    assert "gradfleet_jobs" not in names
