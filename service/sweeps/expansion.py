"""Expansion of a sweep into the specs of its members; pure functions."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from typing import TYPE_CHECKING, Any

from core import Purpose, generator
from service.sweeps.search import Draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.sweeps.search import Over, RandomSearch

SEED = "training.seed"


class NoSuchPlaceError(ValueError):
    """A dotted path, `field`, leads through a value that has no fields."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


def expand(over: Over | None, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The overrides of all members in order: those of `over`, each with every seed."""
    combinations = [{}] if over is None else list(_combinations(over))
    if not seeds:
        return combinations
    return [{**overrides, SEED: seed} for overrides in combinations for seed in seeds]


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with values set at dotted paths, in order; missing objects on the path are created.

    Only the objects and lists on the paths are copied; the rest is shared. Raises NoSuchPlaceError for a path through
    any other value, and for an index that a list does not have.
    """
    spec: dict[str, Any] = dict(base)
    for field, value in overrides.items():
        *parents, last = field.split(".")
        place: Any = spec
        for parent in parents:
            if isinstance(place, dict) and place.get(parent) is None:
                place[parent] = {}
            key = _key(place, parent, field)
            place[key] = copy.copy(place[key])
            place = place[key]
        place[_key(place, last, field)] = value
    return spec


def _key(place: Any, part: str, field: str) -> str | int:
    if isinstance(place, dict):
        return part
    if not isinstance(place, list):
        raise NoSuchPlaceError(field, f"leads through a value that is neither an object nor a list, at {part!r}")
    if not (part.isascii() and part.isdigit() and len(part) < 10 and int(part) < len(place)):
        raise NoSuchPlaceError(field, f"names entry {part!r} of a list of {len(place)}, which are numbered from 0")
    return int(part)


def _combinations(over: Over) -> Iterator[dict[str, Any]]:
    if over.grid is not None:
        for values in itertools.product(*over.grid.values()):
            yield dict(zip(over.grid, values, strict=True))
    elif over.list is not None:
        yield from over.list
    elif over.random is not None:
        yield from _samples(over.random)


def _samples(search: RandomSearch) -> Iterator[dict[str, Any]]:
    for sample in range(search.samples):
        yield {field: _drawn(draw, search.seed, field, sample) for field, draw in search.fields.items()}


def _drawn(draw: Draw, seed: int, field: str, sample: int) -> Any:
    # By name and number, so that other fields or more samples do not change the values drawn so far.
    stream = int.from_bytes(hashlib.sha256(field.encode()).digest()[:8], "big")
    random = generator(seed, Purpose.SWEEP, step=sample, stream=stream)
    match draw:
        case Draw(choices=list(choices)):
            return choices[random.integers(len(choices))]
        case Draw(integers=(low, high)):
            return int(random.integers(low, high, endpoint=True))
        case Draw(uniform=(low, high)):
            share = random.random()
            return _within(low, high, (1 - share) * low + share * high)
        case Draw(log_uniform=(low, high)):
            share = random.random()
            return _within(low, high, math.exp((1 - share) * math.log(low) + share * math.log(high)))
    raise ValueError("the draw has no distribution")


def _within(low: float, high: float, value: float) -> float:
    """The value within the bounds, which rounding can exceed."""
    return min(max(value, low), high)
