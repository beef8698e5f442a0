"""A program that trains on several nodes on this machine: one of them is removed, or their CPUs differ.

It is a separate program because a process can be connected to one Ray cluster only.
"""

from __future__ import annotations

import os

# Ray reads these when it is imported. A node that does not answer counts as lost after 2.5 s and not after 15.
os.environ |= {"RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "500"}

import logging
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tests.chaos.certified_levels import assert_verified, assert_waits, certificate_of, service
from tests.workers.fixtures.attempts import (
    Undisturbed,
    all_events,
    events_until,
    of_kind,
    on_actor,
    undisturbed,
    wait_until,
    workers_of,
)
from tests.workers.fixtures.helpers import assignment, blobs, job
from workers.cluster.attempt import NAMESPACE, Attempt, AttemptLostError, Supervisors
from workers.cluster.levels import common_level, levels_of_nodes
from workers.machine.arithmetic import SETTING, check_level, levels_here, node_environment
from workers.machine.fingerprint import fingerprint
from workers.record.events import Checkpointed, Progress, Restarted, Started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.workers.fixtures.attempts import Events
    from workers.machine.arithmetic import Arithmetic
    from workers.record.events import Event

NODES = 3
LAYERS = [{"type": "linear", "units": 16}, {"type": "tanh"}, {"type": "linear", "units": 3}]


@contextmanager
def local_nodes(levels: Sequence[Arithmetic | None]) -> Iterator[tuple[Cluster, list[Any]]]:
    """A cluster of nodes with one CPU each, of these highest levels of arithmetic.

    The first node has this process and the processes that the cluster needs.
    """
    directory = tempfile.mkdtemp(prefix="gradfleet-")  # Ray's sockets need a short path
    # Not an argument of the nodes: Ray writes the cluster's address to the default directory in any case, and only a
    # node creates that directory.
    os.environ["RAY_TMPDIR"] = directory
    cluster = Cluster()
    try:
        small = {"num_cpus": 1, "object_store_memory": 80 * 1024 * 1024}
        nodes = []
        for level in levels:
            with patch.dict(os.environ, node_environment(level)):
                nodes.append(cluster.add_node(**small, include_dashboard=False))
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.WARNING)
        yield cluster, nodes
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


def node_of(supervisor: str) -> str:
    def here(_: Any) -> str:
        return ray.get_runtime_context().get_node_id()

    return str(on_actor(ray.get_actor(supervisor, namespace=NAMESPACE), here))


def supervisor_that_can_lose_its_node(nodes: list[Any]) -> str:
    """A supervisor on another node than the first. Ray may place it on any node."""
    for _ in range(20):
        name = Supervisors().take()
        if node_of(name) != nodes[0].node_id:
            return name
    raise AssertionError("every supervisor was placed on the first node")


def begun(whole: Undisturbed, directory: Path, supervisor: str) -> tuple[Attempt, Events]:
    attempt = Attempt.start(whole.again(directory, workers=NODES, restarts_left=1), supervisor)
    assert len(workers_of(attempt)) == NODES
    return attempt, events_until(attempt, Checkpointed)


def lose_a_workers_node(whole: Undisturbed, directory: Path, cluster: Cluster, nodes: list[Any]) -> None:
    supervisor = Supervisors().take()
    attempt, events = begun(whole, directory, supervisor)
    (victim, *_) = [node for node in nodes[1:] if node.node_id != node_of(supervisor)]
    cluster.remove_node(victim, allow_graceful=False)
    history = all_events(attempt, events)
    whole.assert_same(history, directory)
    (restarted,) = of_kind(history, Restarted)
    assert restarted.reason == "worker_lost", restarted
    first, second = of_kind(history, Started)
    assert (first.workers, second.workers) == (NODES, NODES - 1)
    assert second.step >= of_kind([event for _, event in events], Checkpointed)[0].step


def lose_the_supervisors_node(whole: Undisturbed, directory: Path, cluster: Cluster, nodes: list[Any]) -> None:
    supervisor = supervisor_that_can_lose_its_node(nodes)
    attempt, events = begun(whole, directory, supervisor)
    (victim,) = [node for node in nodes if node.node_id == node_of(supervisor)]
    cluster.remove_node(victim, allow_graceful=False)
    try:
        all_events(attempt, events)
    except AttemptLostError:
        before = [event for _, event in events]
        attempt.dismiss()  # as the service does: it ends what the supervisor has reserved
    else:
        raise AssertionError("an attempt continued without its supervisor")
    attempt = Attempt.start(whole.again(directory, workers=NODES, job=attempt._job), Supervisors().take())
    history = all_events(attempt, [])
    whole.assert_same([*before, *history], directory)
    (started,) = of_kind(history, Started)
    assert started.workers == NODES - 1
    assert started.step >= of_kind(before, Checkpointed)[0].step


def train_on_different_cpus(directory: Path) -> None:
    """Jobs at the lower of two levels run on both nodes, with the bits of this process; others need the higher one."""
    low, high = (level.name for level in levels_here()[-2:])
    check_level(low, fingerprint())
    changes = {"training.epochs": 3, "training.shards": 2, "model.layers": LAYERS}
    dataset = blobs(directory)

    def spec(level: str | None, workers: int = 2) -> dict[str, Any]:
        return job(**changes, **{"training.arithmetic": level, "resources.workers": workers})

    whole = undisturbed(spec(low), dataset, directory / "whole")
    with local_nodes([low, high]) as (cluster, nodes):
        assert common_level(levels_of_nodes()) == low
        supervisor = Supervisors().take()

        def history(name: str, level: str | None, workers: int = 2) -> list[Event]:
            resolved = assignment(spec(level, workers), dataset, directory).spec
            given = replace(whole.again(directory / name), spec=resolved)
            return all_events(Attempt.start(given, supervisor), [])

        of_both = history("both", low)
        whole.assert_same(of_both, directory / "both")
        (started,) = of_kind(of_both, Started)
        assert started.workers == 2
        # What the certificate of a job holds is the same on each node alone, and on both.
        milestones = milestones_of(whole.outcome.events)
        assert len(milestones) == 18
        assert milestones_of(of_both) == milestones
        for busy, name in zip(nodes, ("on the higher node", "on the lower node"), strict=True):
            with occupied(busy):
                of_one = history(name, low, workers=1)
            whole.assert_same(of_one, directory / name)
            assert milestones_of(of_one) == milestones
        (started,) = of_kind(history("one", high), Started)
        assert started.workers == 1
        check_level(high, started.fingerprint)
        end = history("neither", None)[-1]
        assert (end.outcome, end.reason) == ("failed", "workers_differ"), end
        verify_on_different_cpus(directory / "service", cluster, nodes)


def verify_on_different_cpus(directory: Path, cluster: Cluster, nodes: list[Any]) -> None:
    """A certificate from the higher node verifies on the lower one, at the level of both. No other node can help."""
    low, high = (level.name for level in levels_here()[-2:])
    with service(directory) as client:
        with occupied(nodes[0]):
            of_low, of_high = certificate_of(client, low), certificate_of(client, high)
        with occupied(nodes[1]):
            assert_verified(client, of_low)
            assert_verified(client, of_low, sample=2)
        cluster.remove_node(nodes[1])
        there = [level.name for level in levels_here()[:-1]]
        wait_until(lambda: levels_of_nodes() == [there], "the higher node to be gone")
        assert_waits(client, of_high, there)


def milestones_of(history: Sequence[Event]) -> dict[int, str]:
    return {step: digest for event in of_kind([*history], Progress) for step, digest in event.milestones.items()}


@contextmanager
def occupied(node: Any) -> Iterator[None]:
    """Take the CPU of a node, so that a job runs on the other one."""
    strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    actor = ray.remote(num_cpus=1, scheduling_strategy=strategy)(Occupant).remote()
    assert ray.get(actor.node.remote()) == node.node_id
    yield
    ray.kill(actor)


class Occupant:
    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


LOSSES = {"worker": lose_a_workers_node, "supervisor": lose_the_supervisors_node}


def main(directory: Path, scenario: str) -> None:
    if scenario == "levels":
        train_on_different_cpus(directory)
        return
    changes = {"training.epochs": 1000, "training.shards": 6, "checkpoints": {"every_steps": 200, "keep": 3}}
    whole = undisturbed(job(**changes), blobs(directory), directory / "whole")
    level: Any = os.environ[SETTING]  # that of this process
    with local_nodes([level] * NODES) as (cluster, nodes):
        LOSSES[scenario](whole, directory / "out", cluster, nodes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
