"""Multipliers of the learning rate and of the decay of single parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from core.names import suggest

if TYPE_CHECKING:
    from core.graph.node import ParameterDeclaration

# Multiplied by the largest learning rate and the largest decay, these are still far from the end of float32.
LARGEST_MULTIPLIER = 1000


@dataclass(frozen=True)
class Multipliers:
    """Factors for one parameter of a node; Caffe's `lr_mult` and `decay_mult`.

    `learning_rate` is a factor of the optimizer's learning rate. With 0, the parameter keeps its initial values, and
    its gradient counts as 0 in the norm of the gradient. `decay` is a factor of the penalties and of weight decay. By
    default it is 1 for parameters that have a penalty (weights) and 0 for the others (biases).

    Both are from 0 to 1,000. Raises TypeError or ValueError with the name of the wrong one.
    """

    learning_rate: float = 1.0
    decay: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{field.name} must be a number, not {value!r}")
            if not 0 <= value <= LARGEST_MULTIPLIER:
                raise ValueError(f"{field.name} must be from 0 to {LARGEST_MULTIPLIER}, not {value!r}")


def multipliers_from_spec(where: str, spec: Any) -> dict[str, Multipliers]:
    """Return the multipliers by parameter from their JSON form. TypeError or ValueError name the field in `where`."""
    if not isinstance(spec, Mapping):
        raise TypeError(f"{where} must be an object with one entry for each parameter, not {spec!r}")
    known = [field.name for field in fields(Multipliers)]
    found = {}
    for parameter, factors in spec.items():
        place = f"{where}.{parameter}"
        if not isinstance(factors, Mapping):
            raise TypeError(f"{place} must be an object with {' and '.join(known)}, not {factors!r}")
        for name in factors:
            if name not in known:
                raise ValueError(f"{place}.{name} is not one of {', '.join(known)}{suggest(name, known)}")
        try:
            found[parameter] = Multipliers(**factors)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{place}.{error}") from None
    return found


def multiplied(
    declared: tuple[ParameterDeclaration, ...], multipliers: Mapping[str, Multipliers]
) -> tuple[ParameterDeclaration, ...]:
    """Return a node's parameters with their multipliers. Raises ValueError for a name that is not one of theirs."""
    trained = [each.name for each in declared if not each.statistic]
    for name in multipliers:
        if name not in trained:
            names = ", ".join(trained) or "(none)"
            raise ValueError(
                f"has multipliers for {name!r}, but its trained parameters are {names}{suggest(name, trained)}"
            )
    return tuple(_multiplied(each, multipliers[each.name]) if each.name in multipliers else each for each in declared)


def _multiplied(parameter: ParameterDeclaration, factors: Multipliers) -> ParameterDeclaration:
    decay = float(parameter.penalized) if factors.decay is None else factors.decay
    # Without a penalty the factor of the penalty has no meaning. With 1, the parameter can be updated together with
    # those beside it.
    return replace(parameter, penalized=decay > 0, learning_rate=factors.learning_rate, decay=decay or 1.0)
