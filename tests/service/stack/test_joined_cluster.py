"""What `/readyz` reports about a Ray cluster that runs elsewhere. Ray itself is replaced."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from service.stack import joined_cluster
from service.stack.joined_cluster import JoinedCluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a head that answers, while this machine's node does not run."""

    def connect(**_: object) -> None:
        raise RuntimeError("no node at /tmp/ray/session_1/node_ip_address.json")

    monkeypatch.setattr(joined_cluster, "connect", connect)
    monkeypatch.setattr(joined_cluster, "configure_ray", lambda **_: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)  # the cluster of the other tests stays
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_process_that_does_not_schedule_is_ready_without_joining(head: str) -> None:
    status = JoinedCluster(head).status()
    assert status.ready
    assert status.detail == "not joined: another process schedules"


def test_a_process_that_schedules_and_cannot_join_is_not_ready(head: str) -> None:
    cluster = JoinedCluster(head)
    for _ in range(2):
        assert not cluster.restart()
        status = cluster.status()
        assert not status.ready
        # Without Ray's message, which names files; everyone can read this response.
        assert status.detail == "this machine's Ray node has not joined the cluster; see the log"
    cluster.leave()
    assert cluster.status().ready


def test_a_head_that_does_not_answer_is_reported(head: str) -> None:
    unused = head.rpartition(":")[0] + ":1"
    status = JoinedCluster(unused).status()
    assert not status.ready
    assert status.detail == "the head of the Ray cluster does not answer"
