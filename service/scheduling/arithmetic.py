"""The level of arithmetic of jobs: a job gets one when it first starts, and keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.store.models import Job


def at_level(spec: Mapping[str, Any], level: str | None) -> dict[str, Any]:
    """The spec, with a level if it names none."""
    training = spec["training"]
    return {**spec, "training": {**training, "arithmetic": training.get("arithmetic") or level}}


def without_level(queued: Sequence[Job], levels: Sequence[Sequence[str]]) -> dict[str, str]:
    """By the ids of the jobs whose level no node has: the reason why they wait. `levels` are those of each node."""
    there = {level for of_node in levels for level in of_node}
    waiting = {}
    for job in queued:
        level = job.spec["training"].get("arithmetic")
        if level is not None and level not in there:
            known = ", ".join(sorted(there)) or "none"
            waiting[job.id] = f"waiting_for_arithmetic: needs a node with {level}, and the nodes have {known}"
    return waiting
