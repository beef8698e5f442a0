"""Networks of convolutions, as published, and single convolutions: what is measured with `--images`.

Dropout is left out: it draws other random numbers in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from core import build_classifier, entry_from_spec

Layers = list[dict[str, Any]]


@dataclass(frozen=True)
class ImageWorkload:
    """A training step of a network for images of a shape (height, width, channels).

    With `single`, it is one convolution: forward and all gradients, without a loss and an update.
    """

    network: str
    shape: tuple[int, int, int]
    own: tuple[dict[str, Any], ...]
    batch: int
    threads: int
    classes: int = 10
    single: bool = False
    loss: str = "softmax"
    optimizer: str = "sgd"
    loss_scale: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.network} at {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}"

    @property
    def features(self) -> int:
        return prod(self.shape)

    @property
    def layers(self) -> Layers:
        return [{"type": "reshape", "shape": list(self.shape)}, *self.own]

    @property
    def first(self) -> bool:
        """Whether a single convolution is the first layer of its network, which needs no gradient of its input."""
        return self.single and self.shape[2] <= 3

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a step, about."""
        layers = [entry_from_spec(layer) for layer in self.layers]
        return 3 * build_classifier(layers, self.features).multiply_adds(self.batch)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        features = random.standard_normal((self.batch, self.features), dtype=np.float32)
        return features, random.integers(0, self.classes, self.batch)


def conv(filters: int, kernel: int, stride: int = 1, padding: int = 0, **others: Any) -> dict[str, Any]:
    return {"type": "conv2d", "filters": filters, "kernel": kernel, "stride": stride, "padding": padding, **others}


def pool(kind: str, kernel: int, stride: int) -> dict[str, Any]:
    return {"type": f"{kind}_pool2d", "kernel": kernel, "stride": stride, "ceil": True}


def linear(units: int) -> dict[str, Any]:
    return {"type": "linear", "units": units}


RELU, NORM, FLATTEN = {"type": "relu"}, {"type": "batch_norm"}, {"type": "flatten"}
LRN = {"type": "lrn", "size": 5, "alpha": 1e-4, "beta": 0.75}
GLOBAL_MEAN = {"type": "mean", "axes": [1, 2]}


def lenet() -> Layers:
    convolutions = [conv(20, 5), pool("max", 2, 2), conv(50, 5), pool("max", 2, 2)]
    return [*convolutions, FLATTEN, linear(500), RELU, linear(10)]


def cifar10_quick() -> Layers:
    first = [conv(32, 5, padding=2), pool("max", 3, 2), RELU]
    others = [layer for filters in (32, 64) for layer in (conv(filters, 5, padding=2), RELU, pool("average", 3, 2))]
    return [*first, *others, FLATTEN, linear(64), linear(10)]


def nin() -> Layers:
    def block(kernel: int, *filters: int) -> Layers:
        first, *others = filters
        convolutions = [conv(first, kernel, padding=kernel // 2), *(conv(each, 1) for each in others)]
        return [layer for each in convolutions for layer in (each, RELU)]

    pools = pool("max", 3, 2), pool("average", 3, 2)
    return [*block(5, 192, 160, 96), pools[0], *block(5, 192, 192, 192), pools[1], *block(3, 192, 192, 10), GLOBAL_MEAN]


def resnet20() -> Layers:
    """With projections where the size changes."""
    layers: Layers = [conv(16, 3, padding=1, bias=None), NORM, RELU]
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage and not block else 1
            body = [conv(filters, 3, stride, 1, bias=None), NORM, RELU, conv(filters, 3, padding=1, bias=None), NORM]
            shortcut = [conv(filters, 1, stride, bias=None), NORM] if stride > 1 else []
            layers += [{"type": "residual", "layers": body, "shortcut": shortcut}, RELU]
    return [*layers, GLOBAL_MEAN, linear(10)]


def inception(*filters: int) -> dict[str, Any]:
    """Filters: 1 x 1; 3 x 3 reduced, 3 x 3; 5 x 5 reduced, 5 x 5; of the projection after the pool."""
    fields = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool")
    return {"type": "inception"} | {f"filters_{field}": each for field, each in zip(fields, filters, strict=True)}


INCEPTIONS: dict[str, tuple[int, ...]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def one_inception() -> Layers:
    return [conv(192, 1), RELU, inception(*INCEPTIONS["3a"]), GLOBAL_MEAN, linear(10)]


def googlenet() -> Layers:
    """Without the two auxiliary heads."""
    layers = [conv(64, 7, 2, 3), RELU, pool("max", 3, 2), LRN, conv(64, 1), RELU, conv(192, 3, padding=1), RELU, LRN]
    layers.append(pool("max", 3, 2))
    for name, filters in INCEPTIONS.items():
        layers.append(inception(*filters))
        if name in {"3b", "4e"}:
            layers.append(pool("max", 3, 2))
    return [*layers, GLOBAL_MEAN, linear(1000)]


NETWORKS = (
    ("LeNet", (28, 28, 1), lenet, 64, 10),
    ("cifar10_quick", (32, 32, 3), cifar10_quick, 100, 10),
    ("NiN", (32, 32, 3), nin, 64, 10),
    ("ResNet-20", (32, 32, 3), resnet20, 128, 10),
    ("inception 3a", (28, 28, 192), one_inception, 32, 10),
    ("GoogLeNet", (224, 224, 3), googlenet, 8, 1000),
)
CONVOLUTIONS = (
    (64, (28, 28, 1), conv(20, 5)),
    (64, (12, 12, 20), conv(50, 5)),
    (100, (32, 32, 3), conv(32, 5, padding=2)),
    (100, (16, 16, 32), conv(32, 5, padding=2)),
    (100, (8, 8, 32), conv(64, 5, padding=2)),
    (128, (32, 32, 16), conv(16, 3, padding=1)),
    (128, (16, 16, 32), conv(32, 3, padding=1)),
    (128, (8, 8, 64), conv(64, 3, padding=1)),
    (128, (32, 32, 16), conv(32, 3, 2, 1)),
    (16, (32, 32, 64), conv(64, 3, padding=1)),
    (16, (16, 16, 128), conv(128, 3, padding=1)),
    (8, (224, 224, 3), conv(64, 7, 2, 3)),
    (32, (28, 28, 192), conv(64, 1)),
    (32, (28, 28, 96), conv(128, 3, padding=1)),
    (32, (28, 28, 16), conv(32, 5, padding=2)),
)


def _text(shape: tuple[int, int, int], layer: dict[str, Any]) -> str:
    kernel, stride, (height, width, channels) = layer["kernel"], layer["stride"], shape
    step = f" / {stride}" if stride > 1 else ""
    return f"{kernel} x {kernel}{step}, {channels} to {layer['filters']}, {height} x {width}"


def image_workloads() -> Iterator[ImageWorkload]:
    for threads, (batch, shape, layer) in product((1, 2), CONVOLUTIONS):
        yield ImageWorkload(_text(shape, layer), shape, (layer,), batch, threads, single=True)
    for threads, (name, shape, layers, batch, classes) in product((1, 2), NETWORKS):
        yield ImageWorkload(name, shape, tuple(layers()), batch, threads, classes)
