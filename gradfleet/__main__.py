"""`python -m gradfleet`: the command line."""

from __future__ import annotations

import sys

import gradfleet

# `python -m` lets modules be imported from the current directory, which may have any under the names of ours or of
# the standard library.
if not sys.flags.safe_path and sys.path[0] != gradfleet._SITE:
    del sys.path[0]

from service.cli.main import app

app(prog_name="gradfleet")
