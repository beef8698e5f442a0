"""A process that is told to stop ends with all its children, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import marked_processes
from tests.service.fixtures.support import wait_until

# It blocks in native code, where the interpreter calls no handlers, as while it connects to Ray. Its child ignores
# SIGTERM and has a child in a session of its own, as Ray's processes and MLflow's server have.
PROGRAM = """
import ctypes, subprocess, sys
from service.cli.server import stopping
stopping.MOST_SECONDS = stopping.GRACE = 0.2
stop = stopping.StopSignal(lambda: print("cleaned up", flush=True))
CHILD = "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); " \
    "subprocess.Popen(['sleep', '1000'], start_new_session=True); sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
print("started", flush=True)
libc, mutex = LIBRARY(None), ctypes.create_string_buffer(64)
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_lock(mutex)
"""


# The second one keeps the interpreter's lock, so that no thread of the process runs.
HANGS = {"ctypes.CDLL": (0, "cleaned up\n"), "ctypes.PyDLL": (-signal.SIGKILL, "")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("library", HANGS)
def test_a_process_that_hangs_in_native_code_ends_with_its_children(number: int, library: str) -> None:
    status, output = HANGS[library]
    mark = f"stopping-{os.getpid()}-{number}-{library}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("LIBRARY", library)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"GRADFLEET_TEST_RUN": mark},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        wait_until(lambda: any("sleep 1000" in each for each in marked_processes(mark)), "its child's child")
        process.send_signal(number)
        assert process.wait(30) == status
        assert process.stdout.read() == output
    wait_until(lambda: marked_processes(mark) == [], "the guard has ended, too")
