"""The process that draws figures: `python -m service.analysis.draw`.

It reads a line of JSON per job or sweep from standard input, as written by `service.analysis.artist`, and answers with
a line that contains its id when the figures are in its directory. It ends at the end of the input.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

from service.analysis.artist import COMPARISON, DIRECTORY, FAILURES
from service.analysis.pictures import Pictures, Subject, draw_pictures
from service.analysis.sweep_picture import Member, draw_sweep
from service.datasets.outputs import output_names
from service.processes import file_for_answers
from workers.data.dataset import DatasetInfo
from workers.machine.files import sync_directory, write_durably

MOST_MEMORY = 2 << 30  # bytes, without memory-mapped files
NICE = 10


def main() -> None:
    """Process requests until the end of the input."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    answers = file_for_answers()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


def answer(request: dict[str, Any]) -> dict[str, str]:
    """Draw the job or sweep of a request, and return the answer."""
    if "sweep" in request:
        pictures = Pictures()
        members = [Member(subject_of(each.pop("subject")), **each) for each in request["members"]]
        pictures.add(COMPARISON, lambda: draw_sweep(request["name"], request["metric"], members))
        write_pictures(Path(request["directory"]), pictures)
        return {"sweep": request["sweep"]}
    subject = subject_of(request)
    write_pictures(subject.directory, draw_pictures(subject))
    return {"job": subject.job}


def subject_of(request: dict[str, Any]) -> Subject:
    """Return the job of a request."""
    dataset = DatasetInfo.from_json(request["dataset"])
    names = output_names(request["dataset"])
    return Subject(request["job"], request["name"], Path(request["directory"]), request["spec"], dataset, names)


def write_pictures(directory: Path, pictures: Pictures) -> None:
    """Write files and failures into `pictures` below a directory, atomically; do nothing if the job was deleted."""
    place = directory / DIRECTORY
    partial = place.with_name(f".{DIRECTORY}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
        partial.mkdir()
        for name, content in pictures.files.items():
            write_durably(partial / name, content)
        write_durably(partial / FAILURES, json.dumps(pictures.failures).encode())
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
        sync_directory(directory)
    except FileNotFoundError:
        pass
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main()
