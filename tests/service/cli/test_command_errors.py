"""Whatever goes wrong, a command ends with one sentence and an exit status, and without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from service.cli.connection import connected
from service.cli.main import app as command_line
from service.client import Client
from tests.service.fakes.canned_service import Canned, canned_json, canned_service
from tests.service.fixtures.support import run, with_file

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = (
    ("jobs",),
    ("show", "job_1"),
    ("watch", "job_1"),
    ("metrics", "job_1"),
    ("cancel", "job_1"),
    ("cancel", "sweep_1"),
    ("resume", "job_1", "--workers", "2"),
    ("submit", "FILE"),
    ("validate", "FILE"),
    ("sweep", "FILE", "--watch"),
    ("sweeps",),
    ("compare", "sweep_1"),
    ("download", "job_1"),
    ("datasets", "list"),
    ("datasets", "examples"),
    ("datasets", "show", "d"),
    ("datasets", "add", "d", "FILE", "--upload"),
)
# Answers that are not those of the API.
ANSWERS = {
    "a page": Canned(200, b"<!doctype html><title>Welcome</title>", "text/html"),
    "a page instead of an error": Canned(404, b"<h1>404</h1>", "text/html"),
    "a redirection": Canned(301, b"", "text/html", (("Location", "https://example.com/"),)),
    "an empty answer": Canned(200, b""),
    "a list": canned_json([]),
    "null": canned_json(None),
    "an object of another service": canned_json({"status": "ok"}),
    "JSON that is not UTF-8": Canned(200, b'{"id": "\xff"}'),
    "JSON that is nested deeply": Canned(200, b"[" * 100_000),
    "a problem without fields": Canned(400, b"{}", "application/problem+json"),
    "a problem that is no object": Canned(422, b"[]", "application/problem+json"),
    "a problem with other errors": canned_json({"status": 422, "errors": [1]}, 422, "application/problem+json"),
    "content that is not compressed": Canned(200, b"{}", "application/json", (("Content-Encoding", "gzip"),)),
}


def check_error(result: Any, words: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("gradfleet: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_of_another_server(kind: str, tmp_path: Path) -> None:
    with canned_service(lambda *_: ANSWERS[kind]) as url:
        for command in COMMANDS if kind in {"a page", "an object of another service"} else COMMANDS[:2]:
            if kind in {"a page", "an empty answer", "a list", "null"} and command[0] == "metrics":
                continue  # the metrics of a job are not JSON
            result = run(url, *with_file(command, tmp_path))
            check_error(result, "; is it Gradfleet?" if "compressed" not in kind else "cannot be reached: ")


def test_a_server_that_closes_every_connection() -> None:
    with canned_service(lambda *_: Canned(None, b"")) as url:
        check_error(run(url, "jobs"), f"{url} cannot be reached: ")


@pytest.mark.parametrize(
    "url",
    [" ", "127.0.0.1:8000", "localhost", "/v1", "ftp://127.0.0.1", "http://", "http:///v1", "http://:8000", "http://[",
     "http://[::1", "http://a b", "http://127.0.0.1:port", "http://127.0.0.1:99999", "http://xn--a", "http://ä ",
     "http://..", "http://" + "a" * 70_000],
)  # fmt: skip
def test_an_invalid_address(url: str) -> None:
    result = CliRunner().invoke(command_line, ["jobs"], env={"GRADFLEET_URL": url})
    check_error(result, "is not a URL such as http://127.0.0.1:8000")
    assert len(result.stderr) < 200


def test_a_password_in_the_address_is_not_shown() -> None:
    result = CliRunner().invoke(command_line, ["jobs", "--url", "http://name:secret@127.0.0.1:1"])
    check_error(result, "no service responds at http://127.0.0.1:1; start the service")
    with canned_service(lambda *_: ANSWERS["a page"]) as url:
        result = CliRunner().invoke(command_line, ["jobs", "--url", url.replace("//", "//name:secret@")])
    check_error(result, "is it Gradfleet?")
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ""),
        (("job",), "No such command 'job'. Did you mean 'jobs'?; see `gradfleet --help`"),
        (("jobs", "--limt", "3"), "No such option: --limt (Possible options: --limit); see `gradfleet jobs --help`"),
        (("jobs", "--limit", "x"), "Invalid value for '--limit'"),
        (("jobs", "--limit", "0"), "Invalid value for '--limit'"),
        (("jobs", "--label", "a"), "must be a key and a value, such as team:vision, not 'a'; see `gradfleet jobs"),
        (("show",), "Missing argument"),
        (("show", "a", "b"), "unexpected extra argument"),
        (("datasets", "ad"), "No such command 'ad'"),
    ],
)  # fmt: skip
def test_a_wrong_command_line(arguments: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(command_line, arguments, prog_name="gradfleet")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == (1 if words else 0)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    def choose(_method: str, path: str) -> Canned:
        return canned_json({"rows": []}) if path.endswith("preview") else canned_json({"rows": 1} | DATASET)

    with canned_service(choose) as url:
        sheet = tmp_path / "absent" / "sheet.png"
        result = run(url, "datasets", "show", "d", "--contact-sheet", str(sheet))
    assert result.exit_code == 1
    assert result.stderr == f"gradfleet: {sheet}: No such file or directory\n"


DATASET = {
    "name": "d", "version": 1, "features": 1, "classes": ["a"], "targets": 0, "label": "label", "split_column": None,
    "source": "d.csv", "format": "csv", "digest": "0", "versions": [], "columns": [],
}  # fmt: skip


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "gradfleet", *arguments],
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        **options,
    )


@pytest.fixture
def many_jobs() -> list[dict[str, Any]]:
    one = {
        "name": "a", "experiment": "±", "state": "queued", "progress": {"epoch": 0, "step": 0, "total_steps": 1},
        "metrics": {}, "kept": None, "ranked_by": None, "reason": None,
    }  # fmt: skip
    return [{"id": f"job_{number}", **one} for number in range(100)]


def test_output_that_cannot_be_written(many_jobs: list[dict[str, Any]]) -> None:
    with canned_service(lambda *_: canned_json({"data": many_jobs, "has_more": False})) as url:
        arguments = ("jobs", "--limit", "100", "--url", url)
        reader, writer = os.pipe()
        os.close(reader)
        broken = start(*arguments, stdout=writer)
        os.close(writer)
        with Path("/dev/full").open("wb") as full:
            no_space = start(*arguments, stdout=full)
        closed = start(*arguments, preexec_fn=lambda: os.close(1))
        ascii_only = start(*arguments, stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": "ascii"})
        errors = [process.communicate(timeout=60) for process in (broken, no_space, closed, ascii_only)]
    assert [process.returncode for process in (broken, no_space, closed, ascii_only)] == [1, 1, 0, 0]
    assert errors[0][1] == b""
    assert errors[1][1] == b"gradfleet: No space left on device\n"
    assert errors[2][1] == b""
    assert errors[3][0].count(b"\\xb1") == 100


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that are started can be interrupted, also if the tests run in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c() -> None:
    asked: list[str] = []

    def choose(_method: str, path: str) -> Canned:
        asked.append(path)
        return canned_json(
            {
                "state": "running",
                "id": "job_1",
                "name": "a",
                "reason": None,
                "ranked_by": None,
                "kept": None,
                "metrics": {},
                "progress": PROGRESS,
            }
        )

    with canned_service(choose) as url:
        process = start("watch", "job_1", "--url", url, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"a  running"), "it watches"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")
    assert asked


def test_ctrl_c_does_not_close_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupted request may hold a lock that closing waits for."""
    closed: list[str] = []
    monkeypatch.setattr(Client, "close", lambda self: closed.append(self.base_url))
    for error, expected in ((KeyboardInterrupt, []), (ValueError, ["http://127.0.0.1:1"])):
        with pytest.raises(error), connected("http://127.0.0.1:1"):
            raise error
        assert closed == expected


PROGRESS = {"epoch": 0, "step": 0, "total_steps": 1}
