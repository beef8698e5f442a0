"""The figures of jobs and sweeps that have ended: drawn by a separate process, then uploaded as files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.analysis.artist import DIRECTORY, FAILURES, Artist, JobDrawing, MemberDrawing, SweepDrawing
from service.datasets.repository import located
from service.jobs.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from service.settings import Settings
    from service.store.models import Job, Sweep

GRAPHS = ("graph.svg", "graph_expanded.svg")


@dataclass(frozen=True)
class Drawn:
    """Files by their name, and error messages by the name of those that could not be drawn."""

    files: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class DrawnPictures:
    """Draws the figures of jobs and sweeps. Figures that are already in the directory are not drawn again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._job_dir, self._sweep_dir = settings.job_dir, settings.sweep_dir
        self._artist = Artist(settings.data_dir / "logs" / "pictures.log")
        self._drawing: dict[str, Future[None]] = {}

    def are_drawn(self, job: Job) -> bool:
        """Whether the figures of a job are done. Starts drawing them if necessary."""
        directory = self._job_dir(job.id)
        # A job without a directory never ran, and has no figures.
        return not directory.is_dir() or self._is_drawn(job.id, directory, self._drawing_of(job))

    def are_being_drawn(self, key: str) -> bool:
        """Whether the figures of a job or sweep, by its id, are being drawn."""
        return key in self._drawing and not self._drawing[key].done()

    def is_compared(self, sweep: Sweep, jobs: Sequence[Job], metric: str) -> bool:
        """Whether the figure of a sweep, by a metric, is done. Starts drawing it if necessary."""
        members = [
            MemberDrawing(self._drawing_of(job), job.overrides or {}, value)
            for job in jobs
            if job.state == State.SUCCEEDED and self._job_dir(job.id).is_dir()
            if (value := _kept_value(job, metric)) is not None
        ]
        if not members:
            return True
        directory = self._sweep_dir(sweep.id)
        directory.mkdir(parents=True, exist_ok=True)
        request = SweepDrawing(sweep.id, sweep.name, str(directory.absolute()), metric, members)
        return self._is_drawn(sweep.id, directory, request)

    def take(self, job: Job) -> Drawn:
        """Return the figures of a job. Raises DrawingError if drawing failed, and OSError if files cannot be read."""
        return self._take(job.id, self._job_dir(job.id))

    def take_comparison(self, sweep: Sweep) -> Drawn:
        """Return the figure of a sweep. Raises the same errors as `take`."""
        return self._take(sweep.id, self._sweep_dir(sweep.id))

    def _drawing_of(self, job: Job) -> JobDrawing:
        dataset = located(job.dataset, self._settings)
        return JobDrawing(job.id, job.name, str(self._job_dir(job.id).absolute()), job.spec, dataset)

    def _is_drawn(self, key: str, directory: Path, request: JobDrawing | SweepDrawing) -> bool:
        if key not in self._drawing:
            if (directory / DIRECTORY).is_dir():
                return True  # drawn before a restart
            self._drawing[key] = self._artist.draw(request)
        return not self.are_being_drawn(key)

    def _take(self, key: str, directory: Path) -> Drawn:
        drawing = self._drawing.pop(key, None)
        if drawing is not None:
            drawing.result()
        return pictures_in(directory)

    def close(self) -> None:
        """End the drawing process."""
        self._artist.close()


def _kept_value(job: Job, metric: str) -> float | None:
    """Return the metric of the kept parameters; None if it is not finite or the job does not have it."""
    value: float | None = None if job.kept is None else job.kept["metrics"].get(metric)
    return value


def pictures_in(directory: Path) -> Drawn:
    """Return the figures in the directory of a job or sweep. Raises OSError if they cannot be read."""
    place = directory / DIRECTORY
    if not place.is_dir():
        return Drawn()
    try:
        failures = json.loads((place / FAILURES).read_bytes())
    except ValueError as error:
        raise OSError(f"{FAILURES} cannot be read") from error
    return Drawn({file.name: file for file in sorted(place.iterdir()) if file.name != FAILURES}, failures)


def artifact_path(name: str) -> str:
    """Return the artifact path of a job's figure in MLflow."""
    return f"model/{name}" if name in GRAPHS else f"pictures/{name}"
