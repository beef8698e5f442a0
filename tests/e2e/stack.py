"""A real embedded stack in a separate process, started as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

from service.client import Client
from service.stack.data_directory import LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.client import Job

GRADFLEET = (str(Path(sys.executable).with_name("gradfleet")),)  # as a user starts it
ORPHAN = ("sh", "-c", '"$@" &', "sh")  # as nohup and systemd do: the parent of the command is process 1
MARK = "GRADFLEET_TEST_RUN"


def wait_until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """Return the first true value of a condition; fail after `timeout` seconds with a message that contains `what`."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)
    return value


@dataclass
class Stack:
    """`gradfleet up` on a data directory. Every process that it starts has a mark in its environment."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    directory: Path | None = None  # the working directory
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    api_url: str = ""
    mlflow_url: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str, launcher: Sequence[str] = ()) -> Stack:
        self.process = subprocess.Popen(
            [*launcher, *GRADFLEET, "up", "--port", "0", "--data-dir", str(self.data_dir), *arguments],
            cwd=self.directory,
            env=os.environ | self.environment | {MARK: self.mark},
            stdout=subprocess.PIPE,
            text=True,
            umask=0o022,  # the usual one
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        ready = re.match(r"Gradfleet is ready: API (\S+)  docs \S+  MLflow (\S+)$", line)
        assert ready, f"no ready line, but {line!r}; exit status {self.process.poll()}"
        self.api_url, self.mlflow_url = ready[1], ready[2]
        return self

    def client(self) -> Client:
        return Client(self.api_url)

    def assert_running(self) -> None:
        """Assert that the process that was started has not ended; the message has the ends of its logs."""
        assert self.process is not None
        if self.process.poll() is not None:
            logs = [self.data_dir / "logs" / "gradfleet.log"]
            logs += (self.data_dir / LINK / "ray" / "session_latest" / "logs").glob("python-core-driver-*.log")
            ends = [log.read_text()[-2000:] for log in logs if log.exists()]
            raise AssertionError("\n".join([f"the stack has ended with status {self.process.returncode}", *ends]))

    def signal(self, number: int) -> int:
        """Send a signal to the process that was started and return its exit status."""
        assert self.process is not None
        self.assert_running()
        with self.process:  # closes the pipe
            self.process.send_signal(number)
            return self.process.wait(30)

    def stop_orphan(self) -> str:
        """End the stack that was started with `ORPHAN`, and return the rest of its output."""
        os.kill(self.orphan(), signal.SIGTERM)
        assert self.process is not None
        return self.process.communicate(timeout=30)[0]

    def orphan(self) -> int:
        """Process id of the stack that was started with `ORPHAN`; its parent is process 1."""
        (words,) = (words for words in map(str.split, marked_processes(self.mark)) if words[2:4] == [*GRADFLEET, "up"])
        parent = int(Path(f"/proc/{words[0]}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent == 1, "another process adopts orphans here, so this is not the case to test"
        return int(words[0])

    def pids(self, program: str) -> set[int]:
        """The processes of the stack that run a program with this name."""
        words = [process.split() for process in marked_processes(self.mark)]
        return {int(number) for number, *command in words if Path("".join(command[:1])).name == program}

    def kill(self, program: str) -> None:
        """Kill the one process of the stack that runs a program with this name."""
        (number,) = self.pids(program)
        os.kill(number, signal.SIGKILL)

    def signal_mlflow(self, number: int) -> None:
        """Send a signal to the MLflow server, which does not have the mark, and to its child processes."""
        processes = [int(directory.name) for directory in Path("/proc").iterdir() if directory.name.isdigit()]
        (leader,) = (
            process
            for process in processes
            if b"mlflow" in command_of(process)
            and os.getpgid(process) == process
            and Path(f"/proc/{process}/cwd").resolve() == self.data_dir / "mlflow"
        )
        os.killpg(leader, number)

    def assert_no_process_left(self) -> None:
        """Assert that every process with the mark ends within some seconds."""
        assert_no_process_left(self.mark)

    def end_leftovers(self) -> None:
        """Kill the remaining processes of a killed stack: Ray's two agents may wait forever for a lost cluster."""
        for process in marked_processes(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.split()[0]), signal.SIGKILL)


def command_of(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


def marked_processes(mark: str) -> list[str]:
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                environment = (directory / "environ").read_bytes()
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if f"{MARK}={mark}".encode() in environment.split(b"\0"):
                found.append(f"{directory.name} {command}")
    return found


def assert_no_process_left(mark: str, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while left := marked_processes(mark):
        assert time.monotonic() < deadline, f"left after {timeout} s: {left}"
        time.sleep(0.05)


def series_of(job: Job) -> dict[str, Any]:
    """Every series of a job, `{"steps": [...], "values": [...]}` by name; a value that is not finite is None."""
    return dict(json.loads(job.export_metrics("application/json"))["data"])


def write_digits(path: Path) -> Path:
    digits = load_digits()
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(digits.data.reshape(-1)), 64)
    pq.write_table(pa.table({"pixels": pixels, "label": digits.target}), path)
    return path


def digits_job(**changes: Any) -> dict[str, Any]:
    """A hinge job with one hidden layer. `changes` replace whole sections."""
    return {
        "name": "hinge",
        "experiment": "e2e",
        "data": {"dataset": "digits"},
        "model": {"layers": [{"type": "linear", "units": 32}, {"type": "relu"}, {"type": "linear", "units": 10}]},
        "loss": {"type": "hinge"},
        "regularization": {"l2": 0.001},
        "optimizer": {"type": "sgd", "lr": 0.02, "momentum": 0.9},
        "training": {"epochs": 5, "batch_size": 128, "seed": 7, "shards": 4},
        "resources": {"workers": 2},
    } | changes
