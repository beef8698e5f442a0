"""The task that copies objects of an object store. Its process alone has the credentials."""

from __future__ import annotations

from pathlib import Path

from service.datasets.files.remote import fetch
from service.datasets.tasks.serving import serve


def run(uri: str, directory: str, max_bytes: int) -> str:
    """Copy what is at an address into `directory`; returns its path there."""
    return fetch(uri, Path(directory), max_bytes)


if __name__ == "__main__":
    serve(run)
