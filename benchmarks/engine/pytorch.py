"""The same training step in PyTorch, eager or compiled, with fused optimizers."""

from itertools import pairwise

import numpy as np
import torch

from benchmarks.common.workload import LEARNING_RATE, MOMENTUM, Workload


def model_of(workload: Workload, weights: list[np.ndarray]) -> torch.nn.Module:
    """Return the network with these weights and biases, in the order of its layers."""
    modules: list[torch.nn.Module] = []
    for position, (inputs, outputs) in enumerate(pairwise(workload.widths)):
        linear = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weights[2 * position].T))
            linear.bias.copy_(torch.from_numpy(weights[2 * position + 1]))
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def criterion_of(workload: Workload) -> torch.nn.Module:
    return torch.nn.CrossEntropyLoss() if workload.loss == "softmax" else torch.nn.MultiMarginLoss()


def optimizer_of(workload: Workload, model: torch.nn.Module) -> torch.optim.Optimizer:
    if workload.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, fused=True)
    return torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)


class TorchStep:
    def __init__(self, workload: Workload, weights: list[np.ndarray], *, compiled: bool) -> None:
        torch.set_num_threads(workload.threads)
        model, criterion = model_of(workload, weights), criterion_of(workload)
        self._optimizer = optimizer_of(workload, model)
        self._data = tuple(map(torch.from_numpy, workload.data()))

        def forward(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return criterion(model(features), labels)

        self._forward = torch.compile(forward) if compiled else forward
        self._last = torch.zeros(())

    def __call__(self) -> None:
        self._optimizer.zero_grad()
        self._last = self._forward(*self._data)
        self._last.backward()
        self._optimizer.step()

    def loss(self) -> float:
        """Return the mean loss of the last step."""
        return self._last.item()

    def close(self) -> None:
        torch.compiler.reset()
