"""A program bound to buffers: flat lists of kernel calls on arrays that are allocated up front."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core.arrays import Array, Namespace, aligned_zeros
from core.plan.layout import ParameterLayout
from core.random import Noise, RandomKey

if TYPE_CHECKING:
    from core.plan.program import Instruction, Program

_Call = tuple[Callable[..., object], tuple[object, ...]]


class Plan:
    """Forward and backward passes over a graph without allocating an array.

    Intermediate values reuse memory as soon as they are no longer needed. Inputs, outputs and the gradients of the
    program's `wrt` keep their buffers.

    program: what to compute.
    memory: vector of at least `program.nbytes` bytes for all arrays but parameters and their gradients, aligned like
    `aligned_empty`; by default a new one of zeros. Plans that share it, of any programs, must run one after another: a
    plan's inputs and results last until another one is given inputs or run. Plans with their own can run at the same
    time.
    layout: where parameters lie; by default the layout of the graph's own.
    parameters: flat vector to read them from, by default a new one of zeros. It is shared, not copied.
    gradients: flat vector that backward writes to, except for the padding in it; by default a new one.
    xp: numpy, or cupy for a plan on a GPU.

    Raises ValueError for a memory, a layout or a vector that does not fit the program.
    """

    def __init__(
        self,
        program: Program,
        *,
        memory: Array | None = None,
        layout: ParameterLayout | None = None,
        parameters: Array | None = None,
        gradients: Array | None = None,
        xp: Namespace = np,
    ) -> None:
        self.program, self.xp = program, xp
        self.layout = ParameterLayout(program.parameters) if layout is None else layout
        lacking = [each.name for each in program.parameters if each.name not in self.layout.declarations]
        if lacking:
            raise ValueError(f"the layout lacks {', '.join(lacking)}; it has {', '.join(self.layout.names)}")
        for each in program.parameters:
            shape = self.layout.declarations[each.name].shape
            if shape != each.shape:
                raise ValueError(f"{each.name} has the shape {shape} in the layout and {each.shape} in the program")
        self.parameters = self._vector("parameters", parameters, self.layout.size)
        if program.backward:
            self.gradients = self._vector("gradients", gradients, self.layout.size)
        else:
            self.gradients = aligned_zeros((0,), program.dtype, xp)

        if memory is None:
            memory = aligned_zeros((program.nbytes,), np.uint8, xp)
        elif memory.nbytes < program.nbytes:
            raise ValueError(f"the memory has {memory.nbytes} bytes, but the program needs {program.nbytes}")
        self._arrays = {key: buffer.view(memory) for key, buffer in program.buffers.items()}
        self.inputs = {name: self._arrays["value", name] for name in program.inputs}
        for name, view in self.layout.views(self.parameters).items():
            self._arrays["value", name] = view
        if program.backward:
            for name, view in self.layout.views(self.gradients).items():
                self._arrays["gradient", name] = view
        self._upstream: Mapping[str, npt.ArrayLike] = {}
        self._random: RandomKey | None = None
        self._steps = {step.name: list(self._forward_calls(step)) for step in program.instructions}
        self._forward = [call for calls in self._steps.values() for call in calls]
        self._backward = list(self._backward_calls()) if program.backward else []

    def _vector(self, name: str, vector: Array | None, size: int) -> Array:
        if vector is None:
            return aligned_zeros((size,), self.program.dtype, self.xp)
        if vector.dtype != self.program.dtype:
            raise ValueError(f"{name} must be of the plan's dtype {self.program.dtype}, not {vector.dtype}")
        return vector

    def forward(self, random: RandomKey | None = None) -> None:
        """Compute the outputs from the current `inputs` and `parameters`.

        Nodes that draw random numbers in training, such as dropout, need `random`, and ValueError is raised without it.
        Other plans ignore it.
        """
        self._random = random
        for call, arguments in self._forward:
            call(*arguments)

    def forward_again(self, nodes: Container[str], random: RandomKey | None = None) -> None:
        """Compute only these nodes, where all values that they read are as the last forward left them, or computed too.

        All nodes of the program must be outputs: other values are overwritten during forward.
        """
        self._random = random
        for name, calls in self._steps.items():
            if name in nodes:
                for call, arguments in calls:
                    call(*arguments)

    def value(self, name: str) -> Array:
        """Return the buffer of an output, which the next forward overwrites."""
        outputs = self.program.outputs
        if name not in outputs:
            raise ValueError(f"{name!r} is not an output of this plan; its outputs are {', '.join(outputs)}")
        return self._arrays["value", name]

    def backward(self, upstream: Mapping[str, npt.ArrayLike]) -> None:
        """Write the gradients of `sum(upstream[name] * value(name))` into `gradients`, and those of `wrt`.

        `upstream` maps names of outputs to arrays of the output's shape, or to a number for all entries; outputs that
        are left out have zero. Reads what the last forward kept without changing it, so a second call gives the same
        bits. Nothing is accumulated from call to call.
        """
        for name in upstream:
            self.value(name)
        self._upstream = upstream
        for call, arguments in self._backward:
            call(*arguments)

    def gradient(self, name: str) -> Array:
        """Return the buffer of the gradient of a value named in `wrt`, which the next forward may overwrite."""
        if name not in self.program.wrt:
            raise ValueError(f"{name!r} is not in this plan's wrt, which is ({', '.join(self.program.wrt)})")
        return self._arrays["gradient", name]

    def _forward_calls(self, step: Instruction) -> Iterator[_Call]:
        for name, (_, kind) in step.workspace.items():
            if kind == "noise":
                array = self._arrays["workspace", step.name, name]
                yield self._draw, (step.name, Noise(step.name, array, self.xp))
        inputs = [self._read_only("value", name) for name in step.reads]
        workspace = {name: self._arrays["workspace", step.name, name] for name in step.workspace}
        yield step.node.forward, (self.xp, inputs, self._arrays["value", step.name], workspace)

    def _draw(self, name: str, noise: Noise) -> None:
        if self._random is None:
            raise ValueError(f"node {name!r} draws random numbers in training: forward needs random=RandomKey(...)")
        noise.fill(self._random)

    def _read_only(self, *key: str) -> Array:
        """Return a read-only view: ValueError is raised if a node writes to it."""
        array = self._arrays[key][...]
        # CuPy has no read-only arrays.
        if self.xp is np:
            array.flags.writeable = False
        return array

    def _absent(self, name: str) -> Array:
        """Return an array of NaN that stands for a value that backward does not retain; only its shape is valid."""
        array = self._arrays["value", name]
        nothing = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).min
        nan: Array = self.xp.broadcast_to(self.xp.asarray(nothing, array.dtype), array.shape)
        return nan

    def _backward_calls(self) -> Iterator[_Call]:
        reached: set[str] = set()
        for step in reversed(self.program.instructions):
            if not step.backward:
                continue
            if step.name in self.program.outputs:
                seed = self._add_upstream if step.name in reached else self._write_upstream
                yield seed, (step.name, self._arrays["gradient", step.name])
            gradients: list[Array | None] = []
            sums: list[_Call] = []
            for position, name in enumerate(step.reads):
                total = self._arrays.get(("gradient", name))
                part = self._arrays.get(("contribution", step.name, str(position)), total)
                gradients.append(part)
                if part is not total:
                    sums.append((partial(self.xp.add, out=total), (total, part)))
                reached.add(name)
            retained = step.node.retains
            inputs = [
                self._read_only("value", name)
                if "inputs" in retained or name in step.parameters
                else self._absent(name)
                for name in step.reads
            ]
            output = self._read_only("value", step.name) if "output" in retained else self._absent(step.name)
            workspace = {
                name: self._arrays["scratch", step.name, name]
                if kind == "scratch"
                else self._read_only("workspace", step.name, name)
                for name, (_, kind) in step.workspace.items()
                if kind != "noise"
            }
            upstream = self._read_only("gradient", step.name)
            yield step.node.backward, (self.xp, upstream, inputs, output, workspace, gradients)
            yield from sums
        for name in self.layout.names:
            # No output depends on it.
            if name not in reached:
                yield self._arrays["gradient", name].fill, (0,)

    def _write_upstream(self, name: str, gradient: Array) -> None:
        if name in self._upstream:
            self.xp.copyto(gradient, self._upstream[name])
        else:
            gradient.fill(0)

    def _add_upstream(self, name: str, gradient: Array) -> None:
        if name in self._upstream:
            self.xp.add(gradient, self._upstream[name], out=gradient)
