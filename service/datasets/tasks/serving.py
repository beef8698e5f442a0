"""The process of a task: a request as JSON from its standard input, a result as JSON to its standard output.

A library that parses files may crash, loop or allocate any amount of memory on a malicious file. Here this ends one
process, which has a limit of memory and neither the service's settings nor its connections.
"""

from __future__ import annotations

import errno
import json
import resource
import sys
import traceback
from typing import TYPE_CHECKING, Any

from service.datasets.files.places import PlaceError
from service.processes import die_with_parent, file_for_answers
from service.short_text import shortened
from workers.data.dataset import DatasetError
from workers.machine.error_text import FULL, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

OUT_OF_MEMORY = 77  # exit code
LONGEST_MESSAGE = 1000  # characters
# Errors that say nothing about the files that are read.
OF_THE_MACHINE = FULL | {errno.EROFS, errno.EIO}


def serve(task: Callable[..., Any]) -> None:
    """Run the function with the arguments of the request, and write its result or what is wrong with the files."""
    die_with_parent()
    answer_file = file_for_answers()
    request = json.load(sys.stdin)
    limit(request["memory_bytes"], request["seconds"])
    try:
        answer = answer_of(task, request)
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    with answer_file:
        json.dump(answer, answer_file)


def limit(memory_bytes: int, seconds: float) -> None:
    """Limit the memory and CPU time of this process."""
    # RLIMIT_DATA counts what is allocated. RLIMIT_AS would also count mapped files, which may be larger than memory.
    for kind, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value, hard) if hard == resource.RLIM_INFINITY else (min(value, hard), hard))


def answer_of(task: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    """The result of the task as JSON, or what is wrong. Raises MemoryError."""
    try:
        return {"result": task(**request["arguments"])}
    except MemoryError:
        raise
    except DatasetError as error:
        return {
            "problem": shortened(str(error), LONGEST_MESSAGE),
            "field": error.field if isinstance(error, PlaceError) else None,
        }
    except Exception as error:  # noqa: BLE001 - parsers raise anything on a damaged file
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            return {"errno": error.errno}
        text = text_of(error)  # an OSError's own text has the whole path
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return {
            "problem": shortened(f"{request['what']} cannot be read: it is damaged ({said})", LONGEST_MESSAGE),
            "field": None,
            # It may be an error of this program, so the service logs it.
            "traceback": traceback.format_exc(),
        }
