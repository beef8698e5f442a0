"""How this process starts others."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
# A child does not import modules from the directory that it is started in.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


def child_environment() -> dict[str, str]:
    """This process's environment without the service's settings, which include passwords and tokens."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GRADFLEET_")} | SAFE_PATH


def die_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent ends (Linux); for `preexec_fn`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
