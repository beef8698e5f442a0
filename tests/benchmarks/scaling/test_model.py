from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.scaling.model import Costs, all_gather, exchange_seconds, halving_seconds, reduce_scatter
from core import Hinge, Linear, ParameterLayout, ReLU, build_classifier, with_loss
from tests.workers.fixtures.helpers import assignment, blobs, completed, job
from workers.exchange.messages import HEADER, Exchange, Kind
from workers.exchange.shared_memory import SharedMemory

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, FEATURES, CLASSES = 300, 20, 3


@pytest.mark.parametrize(("workers", "shards"), [(2, 4), (3, 7), (5, 8), (9, 16)])
def test_messages_and_bytes_equal_those_of_a_real_exchange(
    workers: int, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: Counter[tuple[Kind, str, int]] = Counter()
    received: Counter[tuple[Kind, int]] = Counter()
    lock = threading.Lock()
    real = Exchange.send

    def send(self: Exchange, kind: Kind, step: int, rank: int, frames: Any, **options: Any) -> None:
        size = HEADER.size + sum(frame.nbytes for frame in frames)
        with lock:
            sent[kind, "messages", self.membership.rank] += 1
            sent[kind, "bytes", self.membership.rank] += size
            received[kind, rank] += size
        real(self, kind, step, rank, frames, **options)

    monkeypatch.setattr(Exchange, "send", send)
    monkeypatch.setattr(SharedMemory, "create", lambda: None)  # as if each worker were on its own machine
    layers = [{"type": "linear", "units": HIDDEN}, {"type": "relu"}, {"type": "linear", "units": CLASSES}]
    completed(
        assignment(
            job(
                **{
                    "model.layers": layers,
                    "training.epochs": 1,
                    "training.shards": shards,
                    "resources.workers": workers,
                }
            ),
            blobs(tmp_path, features=FEATURES, classes=CLASSES),
            tmp_path,
        )
    )
    graph = with_loss(build_classifier([Linear(units=HIDDEN), ReLU(), Linear(units=CLASSES)], FEATURES), Hinge())
    floats = ParameterLayout(graph.parameters()).size
    steps = sent[Kind.GRADIENTS, "messages", 0] // (workers - 1)
    assert steps > 1
    for kind, phase in (
        (Kind.GRADIENTS, reduce_scatter(workers, shards, floats)),
        (Kind.PARAMETERS, all_gather(workers, floats)),
    ):
        for rank, traffic in enumerate(phase):
            assert sent[kind, "messages", rank] == steps * traffic.messages
            assert sent[kind, "bytes", rank] == steps * traffic.sent
            assert received[kind, rank] == steps * traffic.received


def test_traffic_of_a_power_of_two_of_workers_is_minimal() -> None:
    floats = 64 * 1024
    for workers in (2, 4, 8):
        for traffic in reduce_scatter(workers, 64, floats):
            assert traffic.additions == floats * (workers - 1) // workers
            header_and_table = traffic.sent - 4 * floats * (workers - 1) // workers
            assert header_and_table == (workers - 1) * (HEADER.size + 24 * 64 // workers)


def test_halving_sends_the_same_bytes_in_fewer_messages() -> None:
    floats, workers = 1 << 20, 16
    byte = Costs(latency=0, message=0, byte=1, addition=0)
    message = Costs(latency=0, message=1, byte=0, addition=0)
    parameters = 2 * 4 * floats * (workers - 1) / workers
    assert halving_seconds(workers, floats, byte) == parameters
    assert exchange_seconds(workers, workers, floats, byte) == pytest.approx(parameters, rel=0.01)
    assert halving_seconds(workers, floats, message) == 2 * 4
    assert exchange_seconds(workers, workers, floats, message) == 2 * 15
