"""`gradfleet serve` while Ray or the database is not available."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

from service.client import Client
from tests.e2e.stack import GRADFLEET
from tests.service.fixtures.support import free_port

if TYPE_CHECKING:
    from pathlib import Path


def serve(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*GRADFLEET, "serve", "--port", "0", *arguments],
        env=os.environ | {f"GRADFLEET_{name.upper()}": value for name, value in environment.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_api_does_not_wait_for_ray(tmp_path: Path) -> None:
    process = serve(data_dir=str(tmp_path), ray_address=f"127.0.0.1:{free_port()}")
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = re.match(r"Gradfleet serves: API (\S+)  docs", line)
        assert ready, line
        with Client(ready[1]) as client:
            assert list(client.jobs()) == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_an_unavailable_database_is_named(tmp_path: Path) -> None:
    url = f"postgresql://somebody:secret@127.0.0.1:{free_port()}/gradfleet"
    process = serve(data_dir=str(tmp_path), database_url=url)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "GRADFLEET_DATABASE_URL does not answer" in errors
    assert "secret" not in errors


def test_other_machines_are_not_served(tmp_path: Path) -> None:
    process = serve("--host", "0.0.0.0", data_dir=str(tmp_path))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "0.0.0.0 is not a loopback address" in errors
