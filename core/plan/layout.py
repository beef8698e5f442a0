"""All parameters in one flat vector: the place of each, its initial values, and how it is loaded."""

import hashlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from core.arrays import Array, aligned_zeros
from core.graph.node import ParameterDeclaration
from core.random import Purpose, generator

_STEP = 16  # elements: 64 bytes in float32, so that each parameter of an aligned vector is aligned


class Run(NamedTuple):
    """A range [start, stop) of the flat vector, padding included, whose parameters have the same multipliers."""

    start: int
    stop: int
    learning_rate: float
    decay: float


class ParameterLayout:
    """The place of each parameter in the flat vector.

    Each begins at a multiple of 16 elements. The padding between them is zero, has zero gradient, and so stays zero.
    """

    def __init__(self, declarations: Sequence[ParameterDeclaration]) -> None:
        self.declarations = {declaration.name: declaration for declaration in declarations}
        if len(self.declarations) != len(declarations):
            raise ValueError(f"parameter names must differ, not {[declaration.name for declaration in declarations]}")
        self._slices: dict[str, slice] = {}
        self.size = 0
        for name, declaration in self.declarations.items():
            length = prod(declaration.shape)
            self._slices[name] = slice(self.size, self.size + length)
            self.size += -(-length // _STEP) * _STEP

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters in their order in the vector."""
        return tuple(self.declarations)

    @property
    def penalized(self) -> list[tuple[int, int]]:
        """The ranges [start, stop) of the parameters to which a penalty on the weights applies."""
        ranges = ((self._slices[name], each.penalized) for name, each in self.declarations.items())
        return [(place.start, place.stop) for place, penalized in ranges if penalized]

    @property
    def decays(self) -> list[float]:
        """The factor of the penalty on each of the ranges in `penalized`."""
        return [each.decay for each in self.declarations.values() if each.penalized]

    @property
    def runs(self) -> list[Run]:
        """The vector in runs of equal multipliers, in order; a single one if no parameter has multipliers."""
        runs: list[Run] = []
        for name, each in self.declarations.items():
            factors = each.learning_rate, each.decay
            if not runs or runs[-1][2:] != factors:
                start = self._slices[name].start
                runs[-1:] = [run._replace(stop=start) for run in runs[-1:]]
                runs.append(Run(start, self.size, *factors))
        return runs

    @property
    def statistics(self) -> list[tuple[int, int]]:
        """The ranges [start, stop) of running averages, which are not learnt: see `core.plan.statistics`."""
        ranges = ((self._slices[name], each.statistic) for name, each in self.declarations.items())
        return [(place.start, place.stop) for place, statistic in ranges if statistic]

    def slice(self, name: str) -> slice:
        """Return the place of a parameter, without its padding."""
        return self._slices[name]

    def views(self, vector: Array) -> dict[str, Array]:
        """Return each parameter, in its shape, as a view of a flat vector of `size` elements."""
        if vector.shape != (self.size,):
            raise ValueError(f"the flat vector must be of shape ({self.size},), not {vector.shape}")
        return {name: vector[place].reshape(self.declarations[name].shape) for name, place in self._slices.items()}

    def load(self, tensors: Mapping[str, Array], vector: Array) -> None:
        """Copy all parameters from named tensors into a flat vector.

        Raises ValueError that names each tensor which is missing, unknown, or of another shape or dtype than its
        parameter. The vector is then unchanged.
        """
        views = self.views(vector)
        problems = [f"{name} is unknown" for name in tensors if name not in views]
        for name, view in views.items():
            tensor = tensors.get(name)
            if tensor is None:
                problems.append(f"{name} is missing")
            elif (tensor.shape, tensor.dtype) != (view.shape, view.dtype):
                problems.append(f"{name} is {tensor.dtype} {tensor.shape} and not {view.dtype} {view.shape}")
        if problems:
            raise ValueError(f"the tensors do not fit the parameters: {', '.join(problems)}")
        for name, view in views.items():
            np.copyto(view, tensors[name])


def initialize(layout: ParameterLayout, seed: int, dtype: npt.DTypeLike = np.float32) -> Array:
    """Return a flat vector of initial values.

    Each parameter is drawn in float64 from its own stream, which the SHA-256 of its name selects, and then rounded: its
    values depend on the seed and its name, not on other parameters or on the dtype of the vector.
    """
    vector = aligned_zeros((layout.size,), dtype)
    views = layout.views(vector)
    for name, declaration in layout.declarations.items():
        stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        views[name][...] = declaration.initializer.draw(
            generator(seed, Purpose.INITIAL, stream=stream), declaration.shape
        )
    return vector
