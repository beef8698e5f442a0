"""No text from a user, a file or the service reaches the terminal as anything but text."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from service.cli import terminal
from service.cli.main import app as command_line
from service.visible_text import INVISIBLE, visible
from tests.service.fakes.canned_service import Canned, canned_json, canned_service
from tests.service.fixtures.support import run, with_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Sequences that set the title and clear the screen, C1's CSI, bell, backspace, DEL, line ends of every kind, an
# override and an isolate of direction, characters without width, half of a surrogate pair, a tag character, and markup.
HOSTILE = (
    "\x1b]0;title\x07\x1b[2J\x1b[31337m\x9b2J\b\x7f\r\n\x0b\x0c\x85\u2028\u2029gradfleet: forged"
    "\t\u202e\u2066\u200b\u200d\ufeff\u00ad\ud83d\U000e0041\u034f\u3164[bold]:bomb:[/]\0"
)
HARMLESS = "x"
NUMBERS = {"mean": 0.5, "std": 0.1, "n": 2}


def job(text: str, state: str = "succeeded") -> dict[str, Any]:
    return {
        "id": text,
        "name": text,
        "experiment": text,
        "state": state,
        "reason": text,
        "labels": {text: text},
        "priority": 0,
        "spec": {"name": text, "resources": {"workers": 1, "cpus_per_worker": 1}},
        "dataset": None,
        "progress": {"epoch": 1, "step": 1, "total_steps": 1},
        "ranked_by": text,
        "metrics": {"train/loss": 0.5, text: 1.0},
        "kept": {"step": 1, "epoch": 1, "metrics": {text: 1.0}, "details": None},
        "attempts": [],
        "restarts": 0,
        "created_at": text,
        "started_at": text,
        "finished_at": text,
        "mlflow": None,
        "params_sha256": text,
        "sweep": None,
        "verification": {
            "of": text,
            "root": text,
            "equal": False,
            "first_difference": None,
            "differences": [{"field": text, "message": text}],
            "notes": [text],
            "sample": None,
        },
    }


def sweep(text: str) -> dict[str, Any]:
    jobs = {"succeeded": 1, text: 1}
    return {"id": text, "name": text, "experiment": text, "state": "failed", "jobs": jobs, "spec": {}, "mlflow": None}


def comparison(text: str) -> dict[str, Any]:
    group = {"overrides": {text: text}, "loss": text, "jobs": [text], "n": 2, "left_out": 1}
    groups = [{**group, "metrics": {text: NUMBERS, f"kept/{text}": NUMBERS, "kept/val/accuracy": NUMBERS}}]
    found = {
        "id": text,
        "metric": text,
        "metrics": [text, "val/accuracy"],
        "groups": groups,
        "members": [{}, {}],
        "left_out": 1,
    }
    return {**found, "best": 0, "best_per_loss": {text: 0}}


def dataset(text: str) -> dict[str, Any]:
    return {
        "name": text,
        "version": 1,
        "digest": text,
        "rows": 2,
        "features": 1,
        "dtype": text,
        "shape": None,
        "classes": [text],
        "targets": 0,
        "label": text,
        "split_column": text,
        "splits": {text: 2},
        "format": text,
        "source": text,
        "created_at": text,
        "columns": [{"name": text, "type": text, "width": 1, "exact": True}],
        "versions": [{"version": 1, "digest": text, "rows": 2, "created_at": text}],
    }


def artifacts(text: str) -> dict[str, Any]:
    return {"data": [], "missing": [{"kind": text, "path": path, "reason": text} for path in (text, None)]}


def example(text: str) -> dict[str, Any]:
    return {"name": text, "description": text, "rows": 2, "features": 1, "classes": [text], "shape": None}


def preview(text: str) -> dict[str, Any]:
    layers = [{"name": text, "type": text, "shape": ["batch", text], "parameters": 3}]
    numbers = (
        "parameters",
        "train_rows",
        "validation_rows",
        "steps_per_epoch",
        "total_steps",
        "memory_per_worker_bytes",
    )
    words = {"task": text, "metrics": [text], "warnings": [{"field": text, "message": text}]}
    return {"layers": layers, **words, **dict.fromkeys(numbers, 1)}


# The first pattern that a method and a path match.
ANSWERS: dict[str, Callable[[str], Canned]] = {
    "DELETE .*": lambda _: Canned(204, b""),
    "GET /v1/jobs": lambda text: canned_json({"data": [job(text)], "has_more": False}),
    ".* /v1/jobs/validate": lambda text: canned_json(preview(text)),
    ".* /v1/jobs/.*/metrics": lambda _: Canned(200, b"step,name,value\n1,loss,0.5\n", "text/csv"),
    ".* /v1/jobs/.*/certificate": lambda text: canned_json({"root": text, "job": {"name": text}}),
    ".* /v1/certificates/verify": lambda text: canned_json(job(text)),
    ".* /v1/jobs/.*/artifacts": lambda text: canned_json(artifacts(text)),
    ".* /v1/jobs/failed": lambda text: canned_json(job(text, "failed")),
    ".* /v1/jobs.*": lambda text: canned_json(job(text)),
    "GET /v1/sweeps": lambda text: canned_json({"data": [sweep(text)], "has_more": False}),
    ".* /v1/sweeps/.*/comparison": lambda text: canned_json(comparison(text)),
    ".* /v1/sweeps.*": lambda text: canned_json(sweep(text)),
    "GET /v1/datasets": lambda text: canned_json({"data": [dataset(text)]}),
    "GET /v1/examples": lambda text: canned_json({"data": [example(text)]}),
    ".*/preview": lambda text: canned_json({"rows": [{"features": [1.0], "label": text, "targets": []}]}),
    ".*": lambda text: canned_json(dataset(text)),
}


def answer(text: str, method: str, path: str) -> Canned:
    return next(make(text) for pattern, make in ANSWERS.items() if re.fullmatch(pattern, f"{method} {path}"))


def refusal(text: str, *_: str) -> Canned:
    errors = [{"field": text, "message": text}, {"field": text, "message": text}]
    return canned_json({"status": 422, "detail": text, "errors": errors}, 422, "application/problem+json")


COMMANDS = (
    ("jobs",),
    ("show", "job_1"),
    ("watch", "job_1"),
    ("watch", "failed"),
    ("metrics", "job_1"),
    ("cancel", "job_1"),
    ("cancel", "sweep_1"),
    ("pause", "job_1"),
    ("resume", "job_1"),
    ("resize", "job_1", "--workers", "2"),
    ("delete", "job_1"),
    ("delete", "sweep_1"),
    ("download", "job_1"),
    ("certificate", "job_1"),
    ("verify", "FILE"),
    ("submit", "FILE"),
    ("submit", "FILE", "--watch"),
    ("validate", "FILE"),
    ("sweep", "FILE"),
    ("sweep", "FILE", "--watch"),
    ("sweeps",),
    ("compare", "sweep_1"),
    ("datasets", "list"),
    ("datasets", "show", "d"),
    ("datasets", "delete", "d"),
    ("datasets", "examples"),
    ("datasets", "examples", "digits"),
    ("datasets", "add", "d", "FILE"),
    ("datasets", "add", "d", "FILE", "--upload"),
)


@pytest.fixture(scope="module", params=[answer, refusal])
def services(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The URLs of two services with the same answers, except for the text in them: hostile and harmless."""
    with (
        canned_service(lambda method, path: request.param(HOSTILE, method, path)) as hostile,
        canned_service(lambda method, path: request.param(HARMLESS, method, path)) as harmless,
    ):
        yield hostile, harmless


def test_these_are_all_commands() -> None:
    def names(group: Any) -> set[str]:
        return {name for name, command in group.commands.items() if not hasattr(command, "commands")}

    group: Any = get_command(command_line)
    not_here = {"up", "serve", "migrate", "demo", "gradcheck"}
    assert {arguments[0] for arguments in COMMANDS} - {"datasets"} == names(group) - not_here
    assert {arguments[1] for arguments in COMMANDS if arguments[0] == "datasets"} == names(group.commands["datasets"])


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_only_printable_text_on_as_many_lines(
    services: tuple[str, str], arguments: tuple[str, ...], tmp_path: Path
) -> None:
    hostile, harmless = (run(url, *with_file(arguments, tmp_path)) for url in services)
    # 2 is the status of wrong arguments, and of a certificate that cannot be verified.
    assert hostile.exit_code == harmless.exit_code
    assert harmless.exit_code != 2 or arguments[0] == "verify"
    for text, expected in ((hostile.stdout, harmless.stdout), (hostile.stderr, harmless.stderr)):
        assert all(character == "\n" or character.isprintable() for character in text), ascii(text)
        assert text.count("\n") == expected.count("\n")
        assert "forged" not in text or "\\n" in text
    assert harmless.exit_code == 0 or "forged" in hostile.stderr


@pytest.mark.parametrize(
    "arguments", [("watch", "job_1"), ("watch", "failed"), ("sweep", "FILE", "--watch"), ("jobs",)]
)
def test_live_views_and_tables_on_a_terminal(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal Rich writes sequences of its own: colours, the cursor and the end of a line."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "2000")
    # A console keeps the columns of the environment in which it was made.
    monkeypatch.setattr(terminal.output, "_width", 2000)
    with canned_service(lambda method, path: answer(HOSTILE, method, path)) as url:
        text = run(url, *with_file(arguments, tmp_path)).output
    assert "\\x1b]0;title\\x07\\x1b[2J\\x1b[31337m" in text
    rest = re.sub(r"\x1b\[(\?25[lh]|[0-9;]*m|2K|1A|[0-9]*A)|\r", "", text)
    assert all(character == "\n" or character.isprintable() for character in rest), ascii(rest)
    assert "[31337m" not in text.replace("\\x1b[31337m", "")
    assert "[bold]:bomb:[/]" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", HOSTILE),
        (HOSTILE,),
        ("jobs", f"--{HOSTILE}"),
        ("jobs", "--limit", HOSTILE),
        ("jobs", "--label", HOSTILE),
        ("submit", HOSTILE),
        ("gradcheck", HOSTILE),
        ("datasets", "add", "a", "b", "--shape", HOSTILE),
        ("show", "a", HOSTILE),
        ("metrics", "a", "--format", HOSTILE),
        ("show", "a", "--url", HOSTILE),
        ("show", "a", "--url", f"http://{HOSTILE}"),
        ("tokens", "add", "a", "--role", HOSTILE),
        ("tokens", "add", HOSTILE),
    ],
)
def test_the_arguments_themselves(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLEET_URL", "http://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command_line, arguments)
    assert result.exit_code in {1, 2}
    assert all(character == "\n" or character.isprintable() for character in result.output), ascii(result.output)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("gradfleet: ")
    assert result.stdout == ""


def test_a_file_whose_names_are_hostile(tmp_path: Path) -> None:
    name = HOSTILE.translate(dict.fromkeys(map(ord, "/\0\ud83d")))  # which a file name cannot have
    file = tmp_path / f"{name}.yaml"
    file.write_text('"\\e[2J": 1\nmodel: {inputs: 2, layers: [{type: "\\e[2J", "a\\nb": 1}]}\n', encoding="utf-8")
    result = CliRunner().invoke(command_line, ["gradcheck", str(file)])
    assert result.exit_code == 1
    assert all(character == "\n" or character.isprintable() for character in result.output), ascii(result.output)
    assert all(".yaml: " in line for line in result.stderr.splitlines())


@given(st.text(st.characters()))
def test_visible_text(text: str) -> None:
    unseen = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert visible(text) == "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in unseen or character in INVISIBLE
        else character
        for character in text
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("日本語\u3000ß é", "日本語\u3000ß é"),
        ("👍🏽", "👍🏽"),
        ("C:\\x1b", "C:\\x1b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\nb"),
        ("\x9b", "\\x9b"),
        ("\u202eevil", "\\u202eevil"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud83d", "\\ud83d"),
        ("a\u0301", "a\u0301"),
    ],
)
def test_examples_of_visible_text(text: str, shown: str) -> None:
    assert visible(text) == shown
