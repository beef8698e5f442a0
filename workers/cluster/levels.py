"""The levels of arithmetic of the cluster's nodes, as they tell Ray when they start (see `node_environment`)."""

from __future__ import annotations

from typing import Any

import ray

from workers.machine.arithmetic import ALL, LABEL


def levels_of_nodes() -> list[list[str]]:
    """For each node with CPUs for workers, the names of its levels; none for a node that did not tell any."""
    resources = [node["Resources"] for node in alive_nodes()]
    return [[name for name in ALL if name in there] for there in resources if there.get("CPU", 0) > 0]


def common_level(levels: list[list[str]]) -> str | None:
    """The highest level that every node has; None if there is none."""
    common = set(ALL).intersection(*levels) if levels else set()
    return max(common, key=list(ALL).index, default=None)


def variables(node: str, name: str | None) -> dict[str, str]:
    """Variables for a worker process on a node, so that it computes at a level; none where processes do so anyway."""
    if name is None or any(each["NodeID"] == node and each["Labels"].get(LABEL) == name for each in alive_nodes()):
        return {}
    return ALL[name].environment  # type: ignore[index]


def alive_nodes() -> list[dict[str, Any]]:
    """The cluster's nodes that are alive, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]
