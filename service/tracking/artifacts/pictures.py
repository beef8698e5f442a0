"""The pictures of jobs and sweeps that have ended: drawn by another process, and then files to be sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.analysis.artist import DIRECTORY, FAILURES, Artist, MemberRequest, Request, SweepRequest
from service.jobs.schemas import latest_values
from service.jobs.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from service.settings import Settings
    from service.store.models import Job, Sweep

GRAPH = "graph.svg"
ACCURACY = "val/accuracy"


@dataclass(frozen=True)
class Drawn:
    """Files by their path among a run's artifacts, and why others could not be drawn."""

    files: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class DrawnPictures:
    """Has the pictures of jobs and sweeps drawn, each once: those that lie in their directories are not drawn again."""

    def __init__(self, settings: Settings) -> None:
        self._job_dir, self._sweep_dir = settings.job_dir, settings.sweep_dir
        self._artist = Artist(settings.data_dir / "logs" / "pictures.log")
        self._drawing: dict[str, Future[None]] = {}

    def are_drawn(self, job: Job) -> bool:
        """Whether there is nothing to wait for; has them drawn where they are not."""
        directory = self._job_dir(job.id)
        # Otherwise it never ran.
        return not directory.is_dir() or self._is_drawn(job.id, directory, self._request(job))

    def are_being_drawn(self, key: str) -> bool:
        """Whether a job or a sweep, by its id, waits for its pictures."""
        return key in self._drawing and not self._drawing[key].done()

    def is_compared(self, sweep: Sweep, jobs: Sequence[Job]) -> bool:
        """Whether there is no picture of a sweep to wait for; has it drawn where it is not."""
        members = [
            MemberRequest(self._request(job), job.overrides or {}, accuracy)
            for job in jobs
            if job.state == State.SUCCEEDED and self._job_dir(job.id).is_dir()
            if (accuracy := latest_values(job.latest_metrics).get(ACCURACY)) is not None
        ]
        if not members:
            return True
        directory = self._sweep_dir(sweep.id)
        directory.mkdir(parents=True, exist_ok=True)
        request = SweepRequest(sweep.id, sweep.name, str(directory.absolute()), members)
        return self._is_drawn(sweep.id, directory, request)

    def take(self, job: Job) -> Drawn:
        """What has been drawn. Raises DrawingError where drawing came to nothing, and OSError where the files do."""
        return self._take(job.id, self._job_dir(job.id))

    def take_comparison(self, sweep: Sweep) -> Drawn:
        """What has been drawn of a sweep. Raises as `take` does."""
        drawn = self._take(sweep.id, self._sweep_dir(sweep.id))
        return Drawn({file.name: file for file in drawn.files.values()}, drawn.failures)

    def _request(self, job: Job) -> Request:
        return Request(job.id, job.name, str(self._job_dir(job.id).absolute()), job.spec, job.dataset)

    def _is_drawn(self, key: str, directory: Path, request: Request | SweepRequest) -> bool:
        if key not in self._drawing:
            if (directory / DIRECTORY).is_dir():
                return True  # another process drew them
            self._drawing[key] = self._artist.draw(request)
        return not self.are_being_drawn(key)

    def _take(self, key: str, directory: Path) -> Drawn:
        drawing = self._drawing.pop(key, None)
        if drawing is not None:
            drawing.result()
        place = directory / DIRECTORY
        if not place.is_dir():
            return Drawn()
        try:
            failures = json.loads((place / FAILURES).read_bytes())
        except ValueError as error:
            raise OSError(f"{FAILURES} cannot be read") from error
        return Drawn(
            {_path(file.name): file for file in sorted(place.iterdir()) if file.name != FAILURES},
            {_path(name): reason for name, reason in failures.items()},
        )

    def close(self) -> None:
        """End the process that draws."""
        self._artist.close()


def _path(name: str) -> str:
    """Where a picture lies among a run's artifacts."""
    return f"model/{name}" if name == GRAPH else f"pictures/{name}"
