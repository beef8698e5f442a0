from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from service.jobs.events import add_event, list_events
from service.jobs.repository import create_job
from workers.job.spec import ResourcesSpec

if TYPE_CHECKING:
    from service.store import Database

WRITERS, EVENTS = 4, 25


def test_a_reader_of_an_event_has_read_all_earlier_ones(database: Database) -> None:
    with database.writing() as session:
        spec = {"name": "n", "experiment": "e", "resources": ResourcesSpec().model_dump()}
        job_id = create_job(session, spec=spec, dataset={}, total_steps=1, body_sha256="b")[0].id

    def write() -> None:
        for _ in range(EVENTS):
            with database.writing() as session:
                add_event(session, job_id, "note")
                add_event(session, job_id, "note")

    writers = [threading.Thread(target=write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        seen: list[int] = []
        while len(seen) < 1 + 2 * WRITERS * EVENTS:
            alive = any(writer.is_alive() for writer in writers)
            with database.reading() as session:
                found = [event.id for event in list_events(session, job_id, limit=1000)[0]]
            assert found[: len(seen)] == seen, "an event appeared before one that was already read"
            assert alive or len(found) == 1 + 2 * WRITERS * EVENTS, "a writer has failed"
            seen = found
    finally:
        for writer in writers:
            writer.join()
