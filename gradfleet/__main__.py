"""The command line, as `gradfleet` and as `python -m gradfleet`."""

from __future__ import annotations

import sys

import gradfleet


def main() -> None:
    """Run the command line."""
    gradfleet._load("service.cli.main").app(prog_name="gradfleet")


if __name__ == "__main__":
    # `python -m` puts the current directory on the module path; it may contain modules with the names of ours.
    if not sys.flags.safe_path and sys.path[0] != gradfleet._SITE:
        del sys.path[0]
    main()
