"""The same networks for images, and single convolutions, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.common.workload import LEARNING_RATE, MOMENTUM
from benchmarks.engine.networks import ImageWorkload
from core import Graph, ParameterLayout, build_classifier, entry_from_spec

Function = Callable[..., torch.Tensor]


def _sizes(layer) -> tuple[Any, Any, Any]:
    return layer.kernel, layer.stride, layer.padding


#: layers without parameters, by type: from the engine's layer to a function of channels-first images
FUNCTIONS: dict[str, Callable[[Any], Function]] = {
    "reshape": lambda _: lambda x: x,  # the data have this shape already
    "relu": lambda _: functional.relu,
    "add": lambda _: torch.add,
    "concat": lambda _: lambda *parts: torch.cat(parts, 1),
    "mean": lambda _: lambda x: x.mean((2, 3)),
    "flatten": lambda _: lambda x: x.flatten(1),
    "lrn": lambda layer: lambda x: functional.local_response_norm(x, layer.size, layer.alpha, layer.beta, layer.k),
    "max_pool2d": lambda layer: lambda x: functional.max_pool2d(x, *_sizes(layer), ceil_mode=layer.ceil),
    "average_pool2d": lambda layer: lambda x: functional.avg_pool2d(x, *_sizes(layer), ceil_mode=layer.ceil),
}


class Network(torch.nn.Module):
    """A graph of the engine's layers, with copies of their parameters."""

    def __init__(self, graph: Graph, weights: list[np.ndarray]) -> None:
        super().__init__()
        named = dict(zip(ParameterLayout(graph.parameters()).names, map(torch.from_numpy, weights), strict=True))
        self._shapes = graph.shapes(batch=1)
        self._modules_of = torch.nn.ModuleDict()
        self._steps: list[tuple[str, Function, tuple[str, ...]]] = []
        for name in graph.order():
            placed = graph.nodes[name]
            before = self._shapes[placed.inputs[0]]
            own = {each.name.partition(".")[2]: named[each.name] for each in graph.parameters_of(name, self._shapes)}
            self._steps.append((name, self._function(name, placed.node, before, own), placed.inputs))
            self._flat = before if placed.node.type == "flatten" else None

    def _function(self, name: str, layer, before: tuple[int, ...], own: dict[str, torch.Tensor]) -> Function:
        if layer.type in FUNCTIONS:
            return FUNCTIONS[layer.type](layer)
        module: torch.nn.Module
        if layer.type == "conv2d":
            module = torch.nn.Conv2d(before[3], layer.filters, *_sizes(layer), bias="bias" in own)
            own["weight"] = own["weight"].permute(3, 2, 0, 1)
        elif layer.type == "batch_norm":
            module = torch.nn.BatchNorm2d(before[3], layer.epsilon, layer.momentum)
            own = {"weight": own["scale"], "bias": own["shift"]}
        else:
            module = torch.nn.Linear(before[1], layer.units)
            own["weight"] = own["weight"].T
            if self._flat:  # PyTorch flattens channels first
                _, height, width, channels = self._flat
                rows = own["weight"].reshape(-1, height, width, channels)
                own["weight"] = rows.permute(0, 3, 1, 2).reshape(own["weight"].shape)
        with torch.no_grad():
            for each, values in own.items():
                getattr(module, each).copy_(values)
        self._modules_of[name] = module
        return module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {"features": x}
        for name, function, inputs in self._steps:
            values[name] = function(*(values[each] for each in inputs))
        return values["scores"]


class TorchImages:
    """Contiguous or channels last, eager or compiled."""

    def __init__(self, workload: ImageWorkload, weights: list[np.ndarray], *, last: bool, compiled: bool) -> None:
        torch.set_num_threads(workload.threads)
        form = torch.channels_last if last else torch.contiguous_format
        graph = build_classifier([entry_from_spec(layer) for layer in workload.layers], workload.features)
        model = Network(graph, weights).to(memory_format=form)
        features, labels = map(torch.from_numpy, workload.data())
        height, width, channels = workload.shape
        images = features.reshape(-1, height, width, channels).permute(0, 3, 1, 2).contiguous(memory_format=form)
        self._workload, self._inputs = workload, images
        if workload.single:
            images.requires_grad_(not workload.first)
            self._parameters = list(model.parameters())
            self._upstream = torch.ones_like(model(images))
            self._forward = model
        else:
            self._optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, fused=True)

            def forward(images: torch.Tensor) -> torch.Tensor:
                return functional.cross_entropy(model(images), labels)

            self._forward = torch.compile(forward) if compiled else forward
        self._last = torch.zeros(())

    def __call__(self) -> None:
        if self._workload.single:
            for each in (*self._parameters, self._inputs):
                each.grad = None
            self._last = self._forward(self._inputs)
            self._last.backward(self._upstream)
            return
        self._optimizer.zero_grad()
        self._last = self._forward(self._inputs)
        self._last.backward()
        self._optimizer.step()

    def loss(self) -> float:
        """Return the mean loss of the last step; for a single convolution, what `ConvolutionStep.loss` returns."""
        if not self._workload.single:
            return self._last.item()
        return sum(
            each.detach().square().sum().item() for each in (self._last, *(each.grad for each in self._parameters))
        )

    def close(self) -> None:
        torch.compiler.reset()
