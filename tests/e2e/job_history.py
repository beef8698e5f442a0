"""The events of a job in the API, checked for gaps and repetitions."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.client import Client, Event


def history_of(client: Client, job_id: str) -> list[Event]:
    """Every event of a job."""
    return list(client.job(job_id).history())


def assert_unbroken(client: Client, job_id: str) -> None:
    """Assert that a job's states follow each other without a gap, and that each attempt began and ended once."""
    events = history_of(client, job_id)
    moves = [(event["from_state"], event["to_state"]) for event in events if event["kind"] == "state"]
    assert moves[0] == (None, "queued")
    assert all(before[1] == after[0] for before, after in pairwise(moves)), moves
    job = client.job(job_id)
    assert moves[-1][1] == job["state"]
    assert [to for _, to in moves].count(job["state"]) == 1, "the job ended more than once"
    numbers = [attempt["number"] for attempt in job["attempts"]]
    assert numbers == list(range(1, len(numbers) + 1))
    for kind in ("attempt_started", "attempt_finished"):
        assert [event["attempt"] for event in events if event["kind"] == kind] == numbers
    assert Counter(event["kind"] for event in events)["restarted"] == job["restarts"]
    assert not [event for event in events if event["kind"] == "determinism_violation"]
