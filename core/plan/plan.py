"""A graph compiled for a batch size, a dtype and a device: flat lists of kernel calls on buffers allocated up front."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core.arrays import Array, Namespace, Shape, aligned_zeros
from core.plan.arena import allocate
from core.plan.layout import ParameterLayout
from core.plan.program import Step, lifetimes, needed_steps
from core.random import Noise, RandomKey

if TYPE_CHECKING:
    from core.graph.graph import Graph

_Call = tuple[Callable[..., object], tuple[object, ...]]


class Plan:
    """Forward and backward passes over a graph without allocating an array.

    The buffers of intermediate values are reused as soon as nobody needs them; inputs, outputs and the gradients of
    `wrt` keep theirs.

    graph, outputs: what to compute; nodes that no output depends on are left out.
    batch: the size of the batch dimension; 0 is a batch like any other.
    dtype: of parameters, values and gradients. Integer inputs are int64.
    layout: where parameters lie; by default that of the graph's own.
    parameters: the flat vector to read them from, by default a new one of zeros. It is shared, not copied.
    gradients: the flat vector that backward writes theirs into, all but the padding between them; by default a new one.
    wrt: values whose gradients `gradient` hands out after backward: inputs, or the values of nodes.
    backward: False for a plan that only goes forward, and keeps nothing for the way back.
    training: whether dropout drops and batch normalization uses the batch's own statistics; by default, as `backward`.
    xp: numpy, or cupy for a plan on a GPU.

    Raises GraphError for a graph that cannot be, ValueError for names or a vector that do not belong to it.
    """

    def __init__(
        self,
        graph: Graph,
        outputs: Iterable[str],
        *,
        batch: int = 1,
        dtype: npt.DTypeLike = np.float32,
        layout: ParameterLayout | None = None,
        parameters: Array | None = None,
        gradients: Array | None = None,
        wrt: Iterable[str] = (),
        backward: bool = True,
        training: bool | None = None,
        xp: Namespace = np,
    ) -> None:
        self.xp, self.batch, self.dtype = xp, batch, np.dtype(dtype)
        self.outputs, self.wrt = tuple(outputs), tuple(wrt)
        self.layout = ParameterLayout(graph.parameters()) if layout is None else layout
        self.parameters = aligned_zeros((self.layout.size,), self.dtype, xp) if parameters is None else parameters
        if self.parameters.dtype != self.dtype:
            raise ValueError(f"parameters must be of the plan's dtype {self.dtype}, not {self.parameters.dtype}")
        if gradients is None or not backward:
            gradients = aligned_zeros((self.layout.size if backward else 0,), self.dtype, xp)
        self.gradients = gradients
        if self.gradients.dtype != self.dtype:
            raise ValueError(f"gradients must be of the plan's dtype {self.dtype}, not {self.gradients.dtype}")

        shapes = graph.shapes(batch)
        self._check_names(graph, shapes)
        lacking = [each.name for each in graph.parameters() if each.name not in self.layout.declarations]
        if lacking:
            raise ValueError(f"the layout lacks {', '.join(lacking)}; it has {', '.join(self.layout.names)}")
        differentiable = {*self.layout.names, *self.wrt} if backward else set()
        training = backward if training is None else training
        steps = needed_steps(graph, shapes, self.outputs, differentiable, training=training)
        shapes.update((name, declared.shape) for name, declared in self.layout.declarations.items())
        owned = lifetimes(steps, shapes, self.dtype, outputs=self.outputs, wrt=self.wrt, differentiable=differentiable)
        for name in self.wrt:
            if ("gradient", name) not in owned:
                raise ValueError(f"wrt {name!r} has no gradient: no output depends on it, or backward is False")
        self._arrays = dict(zip(owned, allocate(list(owned.values()), xp), strict=True))

        self.inputs: dict[str, Array] = {}
        for name, declared in graph.inputs.items():
            self.inputs[name] = aligned_zeros(shapes[name], np.int64 if declared.integer else self.dtype, xp)
            self._arrays["value", name] = self.inputs[name]
        for name, view in self.layout.views(self.parameters).items():
            self._arrays["value", name] = view
        if backward:
            for name, view in self.layout.views(self.gradients).items():
                self._arrays["gradient", name] = view
        self._upstream: Mapping[str, npt.ArrayLike] = {}
        self._random: RandomKey | None = None
        self._forward = [call for step in steps for call in self._forward_calls(step)]
        self._backward = list(self._backward_calls(steps, differentiable))

    def forward(self, random: RandomKey | None = None) -> None:
        """Compute the outputs from what `inputs` and `parameters` hold now.

        `random` is what the random numbers of a training pass with dropout depend on; ValueError where such a pass is
        without. Other plans ignore it.
        """
        self._random = random
        for call, arguments in self._forward:
            call(*arguments)

    def value(self, name: str) -> Array:
        """Return the buffer of an output, which the next forward overwrites."""
        if name not in self.outputs:
            raise ValueError(f"{name!r} is not an output of this plan; its outputs are {', '.join(self.outputs)}")
        return self._arrays["value", name]

    def backward(self, upstream: Mapping[str, npt.ArrayLike]) -> None:
        """Write the gradients of `sum(upstream[name] * value(name))` into `gradients`, and those of `wrt`.

        `upstream` gives, for outputs by name, an array of the output's shape, or a number for all of it; zero for an
        output that it leaves out. Reads what the last forward kept and does not change it: a second call gives the same
        bits. Nothing is accumulated from call to call.
        """
        for name in upstream:
            self.value(name)
        self._upstream = upstream
        for call, arguments in self._backward:
            call(*arguments)

    def gradient(self, name: str) -> Array:
        """Return the buffer of the gradient of a value named in `wrt`, which the next forward may overwrite."""
        if name not in self.wrt:
            raise ValueError(f"{name!r} is not in this plan's wrt, which is ({', '.join(self.wrt)})")
        return self._arrays["gradient", name]

    def _forward_calls(self, step: Step) -> Iterator[_Call]:
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
        """Return a view through which a node cannot change what it is only to read: trying raises ValueError."""
        array = self._arrays[key][...]
        # CuPy has no read-only arrays.
        if self.xp is np:
            array.flags.writeable = False
        return array

    def _gone(self, name: str) -> Array:
        """Return what backward gets for a value that it did not ask to be retained: its shape, and no number in it."""
        array = self._arrays["value", name]
        nothing = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).min
        gone: Array = self.xp.broadcast_to(self.xp.asarray(nothing, array.dtype), array.shape)
        return gone

    def _backward_calls(self, steps: Sequence[Step], differentiable: set[str]) -> Iterator[_Call]:
        reached: set[str] = set()
        for step in reversed(steps):
            if not step.backward:
                continue
            if step.name in self.outputs:
                seed = self._add_upstream if step.name in reached else self._write_upstream
                yield seed, (step.name, self._arrays["gradient", step.name])
            gradients: list[Array | None] = []
            sums: list[_Call] = []
            for position, name in enumerate(step.reads):
                total = self._arrays["gradient", name] if name in differentiable else None
                part = self._arrays.get(("contribution", step.name, str(position)), total)
                gradients.append(part)
                if part is not total:
                    sums.append((partial(self.xp.add, out=total), (total, part)))
                reached.add(name)
            retained = step.node.retains
            inputs = [
                self._read_only("value", name) if "inputs" in retained or name in step.parameters else self._gone(name)
                for name in step.reads
            ]
            output = self._read_only("value", step.name) if "output" in retained else self._gone(step.name)
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
            # Nothing depends on it.
            if name in differentiable and name not in reached:
                yield self._arrays["gradient", name].fill, (0,)

    def _write_upstream(self, name: str, gradient: Array) -> None:
        if name in self._upstream:
            self.xp.copyto(gradient, self._upstream[name])
        else:
            gradient.fill(0)

    def _add_upstream(self, name: str, gradient: Array) -> None:
        if name in self._upstream:
            self.xp.add(gradient, self._upstream[name], out=gradient)

    def _check_names(self, graph: Graph, shapes: Mapping[str, Shape]) -> None:
        for name in self.outputs:
            if name not in graph.nodes:
                raise ValueError(f"output {name!r} is not a node; the nodes are {', '.join(graph.nodes)}")
        for name in self.wrt:
            if name not in shapes:
                raise ValueError(f"wrt {name!r} is neither an input nor a node; there are {', '.join(shapes)}")
            if name in graph.inputs and graph.inputs[name].integer:
                raise ValueError(f"wrt {name!r} holds integers, which have no gradient")
