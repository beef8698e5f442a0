"""The field of a sweep's request from which a field of a member comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.sweeps.expansion import SEED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.sweeps.schemas import SweepRequest


def field_of_request(sweep: SweepRequest, number: int, overrides: Mapping[str, Any], field: str) -> str:
    """Return the dotted path in the request of a field of the member with this number.

    Where a search sets the field, or an object around it, that is a place in `over` or `seeds`; otherwise in `base`.
    """
    parts = field.split(".")
    above = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    # An unknown type or name in an object is reported for the object: loss for loss.type.
    below = [each for each in overrides if each.startswith(f"{field}.")]
    override = next((each for each in (f"{field}.type", *above, *below[:1]) if each in overrides), None)
    if override is None:
        return f"base.{field}"
    return _place(sweep, number, override, overrides[override]) + field[len(override) :]


def _place(sweep: SweepRequest, number: int, field: str, value: Any) -> str:
    if field == SEED and sweep.seeds:
        return f"seeds.{number % len(sweep.seeds)}"
    over = sweep.over
    if over is not None and over.grid is not None:
        index = next(index for index, each in enumerate(over.grid[field]) if each is value)
        return f"over.grid.{field}.{index}"
    if over is not None and over.list is not None:
        return f"over.list.{number // (len(sweep.seeds) or 1)}.{field}"
    return f"over.random.fields.{field}"
