"""The process that draws: `python -m service.analysis.draw`, told over its standard input what to draw.

A line of JSON for each job or sweep, as `service.analysis.artist` writes it; the answer is a line with its id, once
what could be drawn lies in its directory. It ends with its input.
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
from workers.data.dataset import DatasetInfo
from workers.machine.files import sync_directory, write_durably

MOST_MEMORY = 2 << 30  # bytes of its own; what is mapped from files does not count
NICE = 10


def main() -> None:
    """Draw until the input ends."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing but answers goes where they are read
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


def answer(request: dict[str, Any]) -> dict[str, str]:
    """Draw what a request is about, a job or a sweep, and say which it was."""
    if "sweep" in request:
        pictures = Pictures()
        members = [Member(subject_of(each.pop("subject")), **each) for each in request["members"]]
        pictures.add(COMPARISON, lambda: draw_sweep(request["name"], members))
        write_pictures(Path(request["directory"]), pictures)
        return {"sweep": request["sweep"]}
    subject = subject_of(request)
    write_pictures(subject.directory, draw_pictures(subject))
    return {"job": subject.job}


def subject_of(request: dict[str, Any]) -> Subject:
    """The job that a request is about."""
    dataset = DatasetInfo.from_json(request["dataset"])
    return Subject(request["job"], request["name"], Path(request["directory"]), request["spec"], dataset)


def write_pictures(directory: Path, pictures: Pictures) -> None:
    """Put files and failures into `pictures` below a job's directory, all at once; a deleted job gets none."""
    place = directory / DIRECTORY
    partial = place.with_name(f".{DIRECTORY}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
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
