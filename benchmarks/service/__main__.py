"""Measure the REST API under load, on a real stack: `make bench-service`, or with ARGS=--quick."""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.common.processors import wait_until_quiet
from benchmarks.service import report
from benchmarks.service.event_streams import EventStreams
from benchmarks.service.http_load import as_fast_as_possible, at_rate, request
from benchmarks.service.jobs import fill, is_exported, job, jobs_named, steps_per_second
from service.settings import Settings
from service.store import Database
from tests.e2e.stack import Stack, write_digits

READS_PER_SECOND = 200
POSTERS, POSTS = 20, 500
STREAMS = 200
PAGE = "/v1/jobs?limit=20"


class Bench:
    """A stack with the dataset of digits, and a plain HTTP client of it."""

    def __init__(self, stack: Stack, seconds: float) -> None:
        self.url, self.seconds = stack.api_url, seconds
        self.database = Database(Settings(data_dir=stack.data_dir).database)
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        write_digits(stack.data_dir / "uploads" / "digits.parquet")
        self.ask("POST", "/v1/datasets", {"name": "digits", "path": "digits.parquet", "label": "label"})
        self.ended = self.ask("POST", "/v1/jobs", job("one", epochs=2))["id"]
        self.wait(self.ended, {"succeeded"})
        while not is_exported(self.database, self.ended):  # otherwise its copies would be exported to MLflow, too
            time.sleep(0.1)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.http.request(method, path, json=body).raise_for_status().json()

    def wait(self, job_id: str, states: set[str], timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while (found := self.ask("GET", f"/v1/jobs/{job_id}"))["state"] not in states:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {states} after {timeout:g} s: {found}")
            time.sleep(0.02)

    def load(self, name: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Return the figures of one request, sent at a fixed rate and as fast as possible."""
        sent = request(self.url, method, path, json.dumps(body).encode() if body is not None else b"")
        quiet = wait_until_quiet()
        steady = at_rate(self.url, lambda _: sent, rate=READS_PER_SECOND, seconds=self.seconds)
        fastest = as_fast_as_possible(self.url, lambda _: sent, clients=8, seconds=self.seconds)
        return report.request_row(name, steady, fastest, quiet=quiet)


def posts(bench: Bench) -> dict[str, Any]:
    """Post jobs from many clients at once, each twice with the same key, and count the jobs that exist afterwards."""
    jobs = [(f"burst-{number}", secrets.token_hex(8)) for number in range(POSTS)]

    def post(entry: tuple[str, str]) -> tuple[float, str]:
        name, key = entry
        begin = time.perf_counter()
        answers = [
            client.post("/v1/jobs", json=job(name, epochs=1), headers={"Idempotency-Key": key}).raise_for_status()
            for _ in range(2)
        ]
        first, again = (answer.json()["id"] for answer in answers)
        if first != again:
            raise AssertionError(f"one key made two jobs: {first} and {again}")
        return (time.perf_counter() - begin) / 2, first

    with httpx.Client(base_url=bench.url, timeout=60, trust_env=False) as client, ThreadPoolExecutor(POSTERS) as pool:
        begin = time.perf_counter()
        done = list(pool.map(post, jobs))
        seconds = time.perf_counter() - begin
    ids = [job_id for _, job_id in done]
    there = jobs_named(bench.database, "burst-")
    for job_id in ids:
        bench.http.post(f"/v1/jobs/{job_id}/cancel")  # 409 for those that have ended meanwhile
    for job_id in ids:
        bench.wait(job_id, {"cancelled", "succeeded"})
    lost, doubled = len({name for name, _ in jobs} - set(there)), len(there) - len(set(there))
    return report.posts_row(POSTERS, POSTS, lost, doubled, seconds, [each for each, _ in done])


def streams(bench: Bench, rounds: int) -> dict[str, Any]:
    """Compare the speed of two jobs with and without readers of their live events, in turns."""
    ids = [bench.ask("POST", "/v1/jobs", job(f"trains-{number}", epochs=200_000))["id"] for number in range(2)]
    for job_id in ids:
        bench.wait(job_id, {"running"})
    paths = [f"/v1/jobs/{ids[number % 2]}/events" for number in range(STREAMS)]

    def rate(seconds: float) -> float:
        begin = time.time_ns() // 10**6
        time.sleep(seconds)
        end = time.time_ns() // 10**6
        time.sleep(0.5)  # the last points have to arrive
        return sum(steps_per_second(bench.database, job_id, begin, end) for job_id in ids)

    rate(2.0)
    alone, watched, messages = [], [], []
    for _ in range(rounds):
        alone.append(rate(bench.seconds))
        with EventStreams(bench.url, paths) as open_streams:
            before, begin = open_streams.messages, time.perf_counter()
            watched.append(rate(bench.seconds))
            messages.append((open_streams.messages - before) / (time.perf_counter() - begin))
    for job_id in ids:
        bench.ask("POST", f"/v1/jobs/{job_id}/cancel")
    for job_id in ids:
        bench.wait(job_id, {"cancelled"})
    return report.streams_row(STREAMS, alone, watched, float(np.median(messages)))


def main(*, quick: bool) -> None:
    seconds, many, rounds = (1.0, 2_000, 1) if quick else (8.0, 100_000, 5)
    with tempfile.TemporaryDirectory(prefix="gradfleet-", ignore_cleanup_errors=True) as directory:
        stack = Stack(Path(directory), environment={"GRADFLEET_CLUSTER_CPUS": "2"}).start()
        try:
            bench = Bench(stack, seconds)
            one = f"/v1/jobs/{bench.ended}"
            fill(bench.database, bench.ended, 100)
            requests = [bench.load("GET /v1/jobs, of 100 jobs", "GET", PAGE)]
            fill(bench.database, bench.ended, many)
            requests.append(bench.load(f"GET /v1/jobs, of {many:,} jobs", "GET", PAGE))
            requests.append(bench.load("GET /v1/jobs/{id}", "GET", one))
            requests.append(bench.load("POST /v1/jobs/validate", "POST", "/v1/jobs/validate", job("x", epochs=1)))
            results = {"requests": requests, "posts": posts(bench), "streams": streams(bench, rounds)}
        finally:
            stack.signal(signal.SIGTERM)
    print(report.text(results))
    if not quick:
        report.write(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short form without files")
    main(quick=parser.parse_args().quick)
