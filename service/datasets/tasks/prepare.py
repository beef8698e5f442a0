"""The task that prepares a dataset from the files at a place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service.datasets.files.places import find_files
from service.datasets.preparation.preparation import Selection, prepare
from service.datasets.tasks.serving import serve


def run(
    places: dict[str, dict[str, Any]], selection: dict[str, Any], workspace: str, directory: str, max_bytes: int
) -> dict[str, Any]:
    """Prepare the files at all places, which are by the field that names them; each has its `roots` and a `path`.

    Returns the first place's path with all links resolved, and the fields of `Prepared`.
    """
    found = {
        field: find_files(field, place["path"], [Path(root) for root in place["roots"]])
        for field, place in places.items()
    }
    files = [file for part, _ in found.values() for file in part]
    prepared = prepare(files, Path(workspace), Path(directory), Selection(**selection), max_bytes=max_bytes)
    sources = [str(source) for _, source in found.values()]
    info = prepared.info.to_json()
    return {"source": sources[0], "info": info, "format": prepared.format, "profile": prepared.profile}


if __name__ == "__main__":
    serve(run)
