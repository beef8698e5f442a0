"""The drawing process: its requests, its crashes, and that it never blocks its callers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.analysis.artist import Artist, DrawingError, JobDrawing, MemberDrawing, SweepDrawing
from tests.service.fixtures.support import wait_until
from tests.workers.fixtures.helpers import assignment, blobs, completed, job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., Artist]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    artists = []

    def make(code: str | None = None, most_seconds: float = 60) -> Artist:
        """An artist. With `code`, its process runs this code for each line that it reads."""
        arguments: dict[str, Any] = {}
        if code is not None:
            body = "import os, sys, time, json\nfor line in sys.stdin:\n    job = json.loads(line)['job']\n"
            (tmp_path / "fake.py").write_text(body + "".join(f"    {line}\n" for line in code.splitlines()))
            arguments = {"command": (sys.executable, str(tmp_path / "fake.py"))}
        artists.append(Artist(tmp_path / "logs" / "pictures.log", most_seconds=most_seconds, **arguments))
        return artists[-1]

    yield make
    for artist in artists:
        artist.close()


@pytest.fixture
def trained(tmp_path: Path) -> JobDrawing:
    given = assignment(job(), blobs(tmp_path, features=25), tmp_path / "job")
    completed(given)
    return JobDrawing(given.job, "a job", str(given.directory), given.spec, asdict(given.dataset))


def request(job: str) -> JobDrawing:
    return JobDrawing(job, "a job", "nowhere", {}, {})


RESPOND = "print(json.dumps({'job': job}), flush=True)"


def test_pictures_are_written_to_the_directory_of_the_job(
    make: Make, trained: JobDrawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADFLEET_DATABASE_URL", "postgresql://user:secret@host/name")
    artist = make()
    artist.draw(trained).result()
    place = tmp_path / "job" / "pictures"
    names = {file.name for file in place.iterdir()}
    assert names >= {"learning_curves.png", "confusion_matrix.png", "graph.svg", "failures.json"}
    assert json.loads((place / "failures.json").read_text()) == {}
    assert {file.name for file in (tmp_path / "job").iterdir()} == {"checkpoints", "history", "pictures"}
    process = artist._process
    assert process is not None
    # The same process draws all jobs, with a low priority and a memory limit.
    artist.draw(trained).result()
    assert artist._process is process
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 10
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert f"Max data size             {2 << 30}" in limits
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"OPENBLAS_NUM_THREADS=1" in environment
    assert b"secret" not in environment


def test_partial_pictures_of_a_killed_process_are_removed(make: Make, trained: JobDrawing, tmp_path: Path) -> None:
    partial = tmp_path / "job" / ".pictures.partial"
    partial.mkdir()
    (partial / "half.png").write_bytes(b"half")
    make().draw(trained).result()
    assert not partial.exists()
    assert not (tmp_path / "job" / "pictures" / "half.png").exists()


def test_a_deleted_job_gets_no_directory(make: Make, trained: JobDrawing, tmp_path: Path) -> None:
    (tmp_path / "job").rename(tmp_path / "elsewhere")
    artist = make()
    artist.draw(trained).result()
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("if job == 'bad': time.sleep(1000)", "TIMEOUT"),
        ("if job == 'bad': print('{', end='', flush=True); time.sleep(1000)", "TIMEOUT"),
        ("if job == 'bad': os.kill(os.getpid(), 9)", "CRASHED"),
        ("if job == 'bad': sys.exit(0)", "CRASHED"),
        ("if job == 'bad': raise ValueError(job)", "CRASHED"),
        ("if job == 'bad': print('what?', flush=True); continue", "CRASHED"),
        ("if job == 'bad': print('{\"job\": \"good\"}', flush=True); continue", "CRASHED"),
        ("if job == 'bad': print('x' * 100_000, flush=True); continue", "CRASHED"),
    ],
)
def test_a_job_that_cannot_be_drawn_does_not_affect_others(make: Make, code: str, error: str) -> None:
    artist = make(f"{code}\n{RESPOND}", most_seconds=1 if error == "TIMEOUT" else 60)
    drawings = [artist.draw(request(name)) for name in ("first", "bad", "good")]
    drawings[0].result()
    with pytest.raises(DrawingError) as raised:
        drawings[1].result()
    assert raised.value.code == error
    drawings[2].result()


def test_a_process_that_ended_between_two_jobs_is_started_again(make: Make) -> None:
    artist = make(RESPOND)
    artist.draw(request("first")).result()
    first = artist._process
    assert first is not None
    first.kill()
    wait_until(lambda: first.poll() is not None, "the process to end")
    artist.draw(request("second")).result()
    assert artist._process is not first


def test_a_request_that_is_never_read_times_out(make: Make) -> None:
    artist = make("time.sleep(1000)", most_seconds=1)
    long = JobDrawing("job", "x" * 1_000_000, "nowhere", {}, {})
    drawings = [artist.draw(long), artist.draw(long)]
    for drawing in drawings:
        with pytest.raises(DrawingError, match="more than 1 s"):
            drawing.result()


def test_closing_kills_the_process(make: Make) -> None:
    artist = make("print('x', end='', flush=True)\ntime.sleep(1000)")
    drawing, waiting = artist.draw(request("first")), artist.draw(request("second"))
    wait_until(lambda: artist._process is not None, "the process to start")
    process = artist._process
    assert process is not None
    artist.close()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(DrawingError):
        drawing.result()
    assert waiting.cancelled()


PARENT = """
import os, sys
from pathlib import Path
from service.analysis.artist import Artist, JobDrawing
artist = Artist(Path(sys.argv[1]), command=(sys.executable, sys.argv[2]))
artist.draw(JobDrawing("job", "name", "nowhere", {}, {}))
while artist._process is None:
    pass
print(artist._process.pid, flush=True)
sys.stdin.read()
"""


def test_the_process_ends_if_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(1000)\n")
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), str(tmp_path / "hangs.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"  # a zombie has ended
        except FileNotFoundError:
            return True

    wait_until(is_gone, "the process to end with its parent")


def test_a_sweep_is_drawn_into_its_own_directory(make: Make, trained: JobDrawing, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    member = MemberDrawing(trained, {"loss.type": "hinge", "training.seed": 5}, 0.9)
    artist = make()
    artist.draw(SweepDrawing("sweep_1", "losses", str(tmp_path / "sweep"), "val/accuracy", [member])).result()
    place = tmp_path / "sweep" / "pictures"
    assert {file.name for file in place.iterdir()} == {"comparison.png", "failures.json"}
    assert json.loads((place / "failures.json").read_text()) == {}
    # A failed drawing is recorded, and the process continues.
    lost = MemberDrawing(replace(trained, directory=str(tmp_path / "lost")), {}, 0.9)
    artist.draw(SweepDrawing("sweep_2", "losses", str(tmp_path / "sweep"), "val/accuracy", [lost])).result()
    assert json.loads((place / "failures.json").read_text()).keys() == {"comparison.png"}
    artist.draw(trained).result()
