"""Room for workers on the cluster: reserved for all of them at once, or for as many as there is room for."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workers.job.spec import ResourcesSpec

RESERVATION_WAIT = 5.0  # seconds
ROOM_WAIT = 1.0  # seconds between looks at a cluster without room for a single worker


class Place(NamedTuple):
    """Room for one worker: its node, and, where it must be started inside of what is reserved, Ray's options for that.

    Only there does Ray tell a process which GPU is its own.
    """

    node: str
    inside: dict[str, Any] | None


class Placement:
    """A reservation, kept for whoever wants the same next: Ray takes up to a second to give away what was freed."""

    def __init__(self) -> None:
        self._group: PlacementGroup | None = None
        self._bundles: list[dict[str, float]] = []

    async def reserve(self, resources: ResourcesSpec) -> list[Place]:
        """Reserve room for the workers; gives the place of each.

        A cluster that has become too small for all of them gives room to as many as it can hold; one that is busy is
        waited for.
        """
        bundle = {"CPU": float(resources.cpus_per_worker)}
        if resources.gpus_per_worker:
            bundle["GPU"] = float(resources.gpus_per_worker)
        while True:
            workers = min(resources.workers, room(bundle))
            if not workers:
                await asyncio.sleep(ROOM_WAIT)
            elif group := await self._reserved([bundle] * workers):
                nodes = placement_group_table(group)["bundles_to_node_id"]
                return [Place(nodes[rank], _inside(group, rank, bundle)) for rank in range(workers)]

    async def _reserved(self, bundles: list[dict[str, float]]) -> PlacementGroup | None:
        if self._group is not None and bundles == self._bundles and _stands(self._group):
            return self._group
        self.release()
        group: PlacementGroup = placement_group(bundles, strategy="PACK")
        self._group, self._bundles = group, bundles
        if await asyncio.to_thread(group.wait, RESERVATION_WAIT):
            return group
        self.release()
        return None

    def release(self) -> None:
        """Give the room back."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def _inside(group: PlacementGroup, rank: int, bundle: dict[str, float]) -> dict[str, Any] | None:
    if "GPU" not in bundle:
        return None
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    return {"num_cpus": bundle["CPU"], "num_gpus": bundle["GPU"], "scheduling_strategy": strategy}


def _stands(group: PlacementGroup) -> bool:
    return bool(placement_group_table(group).get("state") == "CREATED")


def room(bundle: dict[str, float]) -> int:
    """How many workers with these resources the cluster could hold if nothing else ran on it."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return int(sum(min(node.get(name, 0) // amount for name, amount in bundle.items()) for node in nodes))
