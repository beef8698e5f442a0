from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client import AddressError, ApiError, Client, UnreachableError, retries
from service.client.retries import FIRST_PAUSE, LONGEST_PAUSE, Retries, pause_before, seconds_of
from tests.service.fakes.flaky_proxy import Cut, Disconnect, FlakyProxy, LoseResponse, Respond, flaky
from tests.service.fixtures.support import free_port, hinge_job, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.settings import Settings


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the client does not depend on the database


JITTERS = st.floats(0, 1, exclude_max=True)
FAULTS = [
    Disconnect(),
    LoseResponse(),
    Cut(10),
    Respond(429, {"Retry-After": "0"}),
    Respond(502),
    Respond(503),
    Respond(504),
]


@pytest.fixture
def proxy(api: httpx.Client) -> Iterator[FlakyProxy]:
    with flaky(str(api.base_url).rstrip("/")) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FlakyProxy) -> Iterator[Client]:
    with Client(proxy.url) as client:
        yield client


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between retries. The clock advances only during these pauses."""
    slept: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return sum(slept)

        sleep = staticmethod(slept.append)

    monkeypatch.setattr(retries, "time", Clock)
    return slept


@given(st.integers(0, 10_000), JITTERS, st.floats(0, 1e6))
def test_a_pause_doubles_up_to_a_limit_and_is_at_least_retry_after(
    retry: int, jitter: float, retry_after: float
) -> None:
    seconds = pause_before(retry, jitter)
    assert 0.5 * FIRST_PAUSE <= seconds <= LONGEST_PAUSE
    if retry < 5:
        assert 0.5 <= seconds / (FIRST_PAUSE * 2**retry) <= 1
    longer = pause_before(retry, jitter, retry_after)
    assert max(seconds, retry_after) <= longer <= max(seconds, 1.5 * retry_after)


@given(st.integers(0, 12), st.floats(0, 100), st.lists(st.floats(0, 30), max_size=20))
def test_retries_are_bounded_in_number_and_in_time(limit: int, patience: float, retry_afters: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        slept: list[float] = []
        patch.setattr(time, "sleep", slept.append)
        patch.setattr(time, "monotonic", lambda: sum(slept))
        schedule = Retries(limit, patience)
        made = [retry_after for retry_after in retry_afters if schedule.pause(retry_after)]
    assert len(slept) == len(made) == schedule.done <= limit
    assert sum(slept) <= patience
    assert all(pause >= retry_after for pause, retry_after in zip(slept, made, strict=True))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("0", 0), ("7", 7), ("soon", 0), ("-3", 0), ("²", 0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float) -> None:
    assert seconds_of(header) == seconds


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_retry_after_can_be_a_date(zone: str) -> None:
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=60)
    before = datetime.now(UTC)
    seconds = seconds_of(format_datetime(date, usegmt=True).replace("GMT", zone))
    after = datetime.now(UTC)
    assert (date - after).total_seconds() <= seconds <= (date - before).total_seconds()


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_repeated_submission_creates_one_job(
    client: Client, proxy: FlakyProxy, slept: list[float], fault: Disconnect | LoseResponse | Cut | Respond
) -> None:
    proxy.faults = [fault, fault]
    job = client.submit(hinge_job())
    assert [found.id for found in client.jobs()] == [job.id]
    posts = [headers["idempotency-key"] for method, _, headers in proxy.seen if method == "POST"]
    assert len(posts) == 3
    assert len(set(posts)) == 1
    assert [len(slept), slept[0] < slept[1] * 1.001] == [2, True]


@pytest.mark.usefixtures("digits")
def test_two_submissions_are_two_jobs(client: Client, proxy: FlakyProxy) -> None:
    assert client.submit(hinge_job()).id != client.submit(hinge_job()).id
    first = client.submit(hinge_job(), idempotency_key="mine")
    assert client.submit(hinge_job(), idempotency_key="mine").id == first.id
    assert proxy.seen[-1][2]["idempotency-key"] == "mine"


@pytest.mark.usefixtures("digits", "slept")
def test_concurrent_submissions_through_a_faulty_network_create_one_job_each(client: Client, proxy: FlakyProxy) -> None:
    proxy.faults = [*FAULTS, *FAULTS]
    names = [f"job-{number}" for number in range(12)]
    threads = [threading.Thread(target=client.submit, args=[hinge_job(name=name)]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not proxy.faults
    assert sorted(job.name for job in client.jobs()) == sorted(names)


@pytest.mark.usefixtures("digits", "slept")
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_every_other_request_can_be_repeated(
    client: Client, proxy: FlakyProxy, settings: Settings, fault: Disconnect | LoseResponse | Cut | Respond
) -> None:
    job = client.submit(hinge_job())

    def expect_fault(fault: Disconnect | LoseResponse | Cut | Respond) -> None:
        assert not proxy.faults, "the fault before was applied"
        proxy.faults = [fault]

    expect_fault(fault)
    assert job.pause().state == "paused"
    expect_fault(fault)
    assert job.resize(workers=1)["spec"]["resources"]["workers"] == 1
    expect_fault(fault)
    assert job.resume().state == "queued"
    expect_fault(fault)
    assert client.job(job.id).state == "queued"
    expect_fault(fault)
    assert job.cancel().state == "cancelled"
    expect_fault(fault)
    assert client.validate(hinge_job())["total_steps"] == 40
    write_parquet(settings.allowed_roots[0] / "more.parquet", seed=2)
    expect_fault(fault)
    assert client.register_dataset("more", "more.parquet", "label")["name"] == "more"
    expect_fault(fault)
    job.delete()
    assert list(client.jobs()) == []
    with pytest.raises(ApiError, match="There is no job"):
        job.delete()
    keys = Counter((path, headers["idempotency-key"]) for method, path, headers in proxy.seen if method == "POST")
    assert [count for (path, _), count in keys.items() if path != "/v1/jobs"] == [2] * 5


@pytest.mark.usefixtures("digits")
def test_rejected_requests_are_not_repeated(client: Client, proxy: FlakyProxy, slept: list[float]) -> None:
    with pytest.raises(ApiError, match="must be at least 1"):
        client.submit(hinge_job(**{"training.epochs": 0}))
    proxy.faults = [Respond(500)]
    with pytest.raises(ApiError, match="answered 500 Internal Server Error; is it Gradfleet"):
        client.datasets()
    assert (len(proxy.seen), slept) == (2, [])


def test_the_error_of_a_busy_service_is_raised_after_the_last_retry(proxy: FlakyProxy, slept: list[float]) -> None:
    proxy.faults = [Respond(503, {"Retry-After": "2"})] * 4
    with Client(proxy.url, retries=3) as client, pytest.raises(ApiError, match="answered 503") as caught:
        client.datasets()
    assert caught.value.status == 503
    assert len(slept) == 3
    assert min(slept) >= 2


def test_retry_after_beyond_the_patience_is_not_waited_for(proxy: FlakyProxy, slept: list[float]) -> None:
    proxy.faults = [Respond(429, {"Retry-After": "3600"})]
    with Client(proxy.url, patience=60) as client, pytest.raises(ApiError, match="answered 429"):
        client.datasets()
    assert slept == []


def test_no_service_at_the_address(slept: list[float]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        Client(url, retries=3) as client,
        pytest.raises(UnreachableError, match=f"no service responds at {url}$") as caught,
    ):
        client.datasets()
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert len(slept) == 3


def test_a_response_that_times_out(slept: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout=0.05, retries=1) as client, pytest.raises(UnreachableError, match="timed out"):
            client.datasets()
    assert len(slept) == 1


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8000"])
def test_an_invalid_address(url: str) -> None:
    with pytest.raises(AddressError, match=r"is not a URL such as http://"):
        Client(url)
