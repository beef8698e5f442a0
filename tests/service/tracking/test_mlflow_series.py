"""Which points of a series are exported to MLflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.jobs.repository import create_job, move, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import State
from service.settings import Settings
from service.store import Database, migrate
from service.store.models import Job, MlflowRun
from service.tracking import job_export
from service.tracking.job_export import JobExport
from service.tracking.mlflow.api import Run, UnavailableError
from service.tracking.series import MOST, bucket_width, chosen, mlflow_name
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job
from workers.record.history import is_reported

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def reported(total_steps: int) -> np.ndarray:
    """Steps whose points are in the database."""
    steps = np.arange(1, total_steps + 1)
    return steps[is_reported(steps, -(-total_steps // 10_000), total_steps)]


@pytest.mark.parametrize("total_steps", [1, 2000, 2001, 2499, 2500, 9_999, 10_001, 123_457, 10_000_000])
def test_a_series_has_at_most_2000_points(total_steps: int) -> None:
    width = bucket_width(total_steps)
    steps = reported(total_steps)
    values = np.random.default_rng(total_steps).normal(size=len(steps))
    indices = chosen(steps, values, width, last=True)
    assert len(indices) <= MOST
    if total_steps <= MOST:
        assert len(indices) == total_steps
    else:
        assert len(indices) > MOST / 2, "a curve with noise keeps more than half of the allowed points"
        assert width in steps, "the last step of a bucket has a point"


@given(
    points=st.dictionaries(st.integers(1, 60), st.floats(), min_size=1),
    width=st.integers(2, 20),
)
def test_buckets_keep_their_ends_and_extremes(points: dict[int, float], width: int) -> None:
    steps = np.array(sorted(points))
    values = np.array([points[step] for step in steps.tolist()])
    kept = chosen(steps, values, width, last=True)
    assert kept.tolist() == sorted(set(kept.tolist()))
    for bucket in np.unique((steps - 1) // width):
        inside = np.flatnonzero((steps - 1) // width == bucket)
        kept_inside = [index for index in kept.tolist() if index in inside]
        assert len(kept_inside) <= 4
        assert (kept_inside[0], kept_inside[-1]) == (inside[0], inside[-1])
        finite = values[inside][np.isfinite(values[inside])]
        if len(finite):
            shown = values[kept_inside][np.isfinite(values[kept_inside])]
            assert (shown.min(), shown.max()) == (finite.min(), finite.max())


@given(
    points=st.dictionaries(st.integers(1, 60), st.floats(), min_size=1),
    width=st.integers(2, 20),
    end=st.integers(1, 60),
)
def test_points_exported_early_are_part_of_the_final_selection(points: dict[int, float], width: int, end: int) -> None:
    steps = np.array(sorted(points))
    values = np.array([points[step] for step in steps.tolist()])
    so_far = int(np.searchsorted(steps, end, side="right"))
    if so_far == 0:
        return
    early = set(chosen(steps[:so_far], values[:so_far], width, last=False).tolist())
    later = set(chosen(steps, values, width, last=True).tolist())
    assert early <= later
    complete = steps[so_far - 1] // width * width
    assert {index for index in later if steps[index] <= complete} <= early, "complete buckets are exported early"


class RecordingApi:
    """MLflow's API that records points. Some calls fail, before or after recording them."""

    def __init__(self, failures: Iterator[str]) -> None:
        self.points: dict[tuple[str, int], set[tuple[str, int]]] = {}
        self.sent = self.largest = 0
        self._failures = failures

    def log_points(self, _run_id: str, points: Sequence[Point]) -> None:
        failure = next(self._failures, "")
        if failure == "before":
            raise UnavailableError(failure)
        self.largest = max(self.largest, len(points))
        self.sent += len(points)
        for point in points:
            self.points.setdefault((point.name, point.step), set()).add((repr(point.value), point.time_ms))
        if failure == "after":
            raise UnavailableError(failure)

    def find_run(self, *_: object) -> Run:
        return Run("r", "1", active=True, artifact_uri="mlflow-artifacts:/1")

    def __getattr__(self, _name: str) -> object:
        return lambda *_arguments: self.find_run()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("series"))
    migrate(settings.database)
    database = Database(settings.database)
    yield database
    database.close()


TOTAL = 4000  # a bucket has 8 steps
EPOCH = 7


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(st.floats(), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 20), max_size=8),
    per_call=st.integers(1, 40),
    failures=st.lists(st.sampled_from(["", "", "before", "after"]), max_size=12),
)
def test_the_exported_points_do_not_depend_on_batches_and_failures(
    database: Database, values: list[float], cuts: list[int], per_call: int, failures: list[str]
) -> None:
    """Two series are recorded in batches of any size and exported in calls of any size, some of which fail."""
    points = [Point("train/loss", step, value, 1000 + step) for step, value in enumerate(values, 1)]
    points += [Point("val/loss", step, values[step - 1], 2000 + step) for step in range(EPOCH, len(values) + 1, EPOCH)]
    with database.writing() as session:
        dataset = {"digest": "0" * 64, "rows": 300, "features": 8, "classes": ["0", "1"]}
        job, _ = create_job(session, spec=hinge_job(), dataset=dataset, total_steps=TOTAL, body_sha256="b")
        attempt = start_attempt(session, job.id, "supervisor")
        move(session, job.id, from_=State.QUEUED, to=State.STARTING)
        move(session, job.id, from_=State.STARTING, to=State.RUNNING)
        job_id = job.id
    api = RecordingApi(iter(failures))

    def export_all() -> None:
        # A new exporter each time, because the result must not depend on its state.
        while True:
            try:
                if not JobExport(database, Settings(), api).export(job_id):  # type: ignore[arg-type]
                    return
            except UnavailableError:
                continue

    begin = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_export, "POINTS_PER_CALL", per_call)
        for cut in [*cuts, len(values)]:
            batch = [point for point in points if begin < point.step <= begin + cut]
            with database.writing() as session:
                record_points(session, job_id, attempt, batch)
            export_all()
            begin += cut
        with database.writing() as session:
            move(session, job_id, from_=State.RUNNING, to=State.SUCCEEDED)
        export_all()

    expected = {}
    for name in ("train/loss", "val/loss"):
        series = [point for point in points if point.name == name]
        if series:
            columns = np.array([point.step for point in series]), np.array([point.value for point in series])
            for index in chosen(*columns, bucket_width(TOTAL), last=True).tolist():
                point = series[index]
                stored = point.value if point.value != 0 else 0.0  # SQLite stores -0.0 as 0.0
                expected[mlflow_name(name), point.step] = {(repr(stored), point.time_ms)}
    assert api.points == expected
    assert api.largest <= per_call
    if not any(failures):  # MLflow is slow for points that it has, and logs an error
        assert api.sent == len(api.points)
    with database.reading() as session:
        assert session.get_one(Job, job_id).mlflow_finished
        assert session.get_one(MlflowRun, job_id).status == "FINISHED"


def test_values_that_are_not_finite_do_not_hide_extremes() -> None:
    values = np.array([1.0, math.inf, 9.0, math.nan, -math.inf, -9.0, 3.0, 4.0])
    kept = chosen(np.arange(1, 9), values, 8, last=True)
    assert values[kept].tolist() == [1.0, 9.0, -9.0, 4.0]
