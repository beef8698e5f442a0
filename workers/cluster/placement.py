"""Reservations for workers on the cluster, for all workers at once or for as many as fit."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workers.cluster.levels import alive_nodes, variables
from workers.job.spec import ResourcesSpec

RESERVATION_WAIT = 5.0  # seconds
ROOM_WAIT = 1.0  # seconds between checks of a cluster that cannot hold a single worker


class Place(NamedTuple):
    """The node of one worker, and variables that its process needs in addition to those of the node's processes.

    `inside` are Ray's options to start it inside of the reservation, if it must be: only there, Ray assigns a GPU.
    """

    node: str
    environment: dict[str, str]
    inside: dict[str, Any] | None = None


class Placement:
    """A reservation, kept for the next group that needs the same: Ray takes up to a second to reuse freed resources.

    It does not end with its supervisor, `owner`, but when the service removes it: if the creator dies while Ray makes a
    reservation, Ray may never free the resources.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._group: PlacementGroup | None = None
        self._bundles: list[dict[str, float]] = []

    async def reserve(
        self, resources: ResourcesSpec, arithmetic: str | None, waiting: Callable[[str], Awaitable[None]]
    ) -> list[Place]:
        """Reserve resources for the workers, on nodes that have a level of arithmetic; returns the place of each.

        If the cluster has become too small for all of them, there are places for as many as it can hold. While the
        cluster is busy, this waits, and calls `waiting` with the reason now and then.
        """
        bundle = {"CPU": float(resources.cpus_per_worker)}
        if resources.gpus_per_worker:
            bundle["GPU"] = float(resources.gpus_per_worker)
        if arithmetic:
            bundle[arithmetic] = 1.0
        while True:
            workers = min(resources.workers, room(bundle))
            if not workers:
                await waiting("cluster_too_small: no node of the cluster has the resources of one worker")
                await asyncio.sleep(ROOM_WAIT)
            elif group := await self._reserved([bundle] * workers):
                nodes = placement_group_table(group)["bundles_to_node_id"]
                return [
                    Place(nodes[rank], variables(nodes[rank], arithmetic), _inside(group, rank, bundle))
                    for rank in range(workers)
                ]
            else:
                needs = " and ".join(f"{workers * bundle[name]:g} {name}s" for name in ("CPU", "GPU") if name in bundle)
                await waiting(f"waiting_for_resources: needs {needs}, which were not free for {RESERVATION_WAIT:g} s")

    async def _reserved(self, bundles: list[dict[str, float]]) -> PlacementGroup | None:
        """The reservation of these bundles; None if Ray has not made it yet."""
        if self._group is None or bundles != self._bundles or not _is_valid(self._group):
            self.release()
            name = f"{self._owner}/{secrets.token_hex(8)}"
            self._group = placement_group(bundles, strategy="PACK", name=name, lifetime="detached")
            self._bundles = bundles
        group = self._group
        return group if await asyncio.to_thread(group.wait, RESERVATION_WAIT) else None

    def release(self) -> None:
        """Give the reserved resources back."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def reservations() -> list[tuple[str, PlacementGroup]]:
    """All reservations, each with the name of its supervisor, which may have died."""
    found = []
    for id_, group in placement_group_table().items():
        owner, is_ours, _ = group["name"].partition("/")
        if is_ours and group["state"] != "REMOVED":
            found.append((owner, PlacementGroup(ray.PlacementGroupID(bytes.fromhex(id_)))))
    return found


def _inside(group: PlacementGroup, rank: int, bundle: dict[str, float]) -> dict[str, Any] | None:
    if "GPU" not in bundle:
        return None
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    return {"num_cpus": bundle["CPU"], "num_gpus": bundle["GPU"], "scheduling_strategy": strategy}


def _is_valid(group: PlacementGroup) -> bool:
    """Whether Ray has made a reservation, or still tries to for the first time."""
    return placement_group_table(group).get("state") in {"PENDING", "PREPARED", "CREATED"}


def room(bundle: dict[str, float]) -> int:
    """The number of workers with these resources that the cluster could hold if nothing else ran on it."""
    nodes = [node["Resources"] for node in alive_nodes()]
    return int(sum(min(node.get(name, 0) // amount for name, amount in bundle.items()) for node in nodes))
