"""The weights of the first layer as images: the lecture's templates of a linear layer, the filters of a convolution."""

from __future__ import annotations

from math import ceil, isqrt, prod
from typing import TYPE_CHECKING

import numpy as np

from core import Conv2d, Crop, Identity, Linear, ZeroPad
from core.layers.shape.base import Reshaping
from service.analysis.style import panels, plain
from service.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from core import Model

SMALLEST = 5  # pixels per side of an image
MOST_PICTURES, COLUMNS = 40, 10
TALLEST = 4  # times the width
#: layers whose output has the pixels of their input; dropout is Identity in evaluation
SAME_PIXELS = (Reshaping, Identity, ZeroPad, Crop)


def image_shape(features: int, known: Sequence[int] | None) -> tuple[int, int, int] | None:
    """Return height, width and channels of the images with this number of features; None if there are none.

    `known` is the shape of a row in the dataset. Without it, a square number of features is a greyscale image.
    """
    side = isqrt(features)
    sides = (side, side) if known is None else tuple(known)
    if len(sides) not in {2, 3}:
        return None
    height, width, *channels = sides
    shape = height, width, prod(channels)
    return shape if prod(shape) == features and min(height, width) >= SMALLEST else None


def row_shape(model: Model, known: Sequence[int] | None) -> tuple[int, int, int] | None:
    """Return height, width and channels of the images that a model reads; None if it reads none.

    `known` is the shape of a row in the dataset, for a model that reads lists of numbers.
    """
    _, *read = model.graph.shapes()["features"]
    if len(read) == 3:
        height, width, channels = read
        return height, width, channels
    return image_shape(prod(read), known)


def draw_first_layer(
    name: str, model: Model, classes: Sequence[str], known: Sequence[int] | None = None
) -> Figure | None:
    """Draw the weights of the first layer that reads the features; None if they are not images.

    `known` is the shape of a row in the dataset, if it has one. A unit or filter is one picture if it has one channel,
    or three, which are red, green and blue. Otherwise each of its channels is a picture. If there are more than
    `MOST_PICTURES`, those of the units or filters whose weights have the largest norms are drawn.
    """
    for layer in _first_layers(model):
        weights = model.tensors[f"{model.graph.owner(layer)}.weight"]
        if weights.ndim == 4:
            words = [f"filter {number}" for number in range(weights.shape[3])], f"filters of {layer}"
        else:
            shape = row_shape(model, known)
            if shape is None or prod(shape) != len(weights):
                continue
            weights = weights.reshape(*shape, -1)
            if layer == "scores":
                words = [plain(visible(each)[:12]) for each in classes], "classes"
            else:
                words = [f"unit {number}" for number in range(weights.shape[3])], f"units of {layer}"
        if prod(weights.shape[:2]) > 1:
            return _draw_weights(name, weights, *words)
    return None


def _first_layers(model: Model) -> Iterator[str]:
    """Yield the linear layers and convolutions that read the features' pixels."""
    pixels = {"features"}
    for step in model.plan(1).program.instructions:
        if len(step.inputs) == 1 and step.inputs[0] in pixels:
            if isinstance(step.node, Linear | Conv2d):
                yield step.name
            elif isinstance(step.node, SAME_PIXELS):
                pixels.add(step.name)


def _draw_weights(name: str, weights: NDArray[np.float32], labels: Sequence[str], of: str) -> Figure:
    """Draw weights (height, width, channels, units); `labels` are those of the units, and `of` says what they are."""
    channels, units = weights.shape[2:]
    several = channels not in {1, 3}
    columns = min(channels, COLUMNS) if several else COLUMNS
    norms = np.linalg.norm(weights.reshape(-1, units), axis=0)
    shown = np.sort(np.argsort(-norms, kind="stable")[: MOST_PICTURES // columns if several else MOST_PICTURES])
    title = f"the {len(shown)} of {units} {of} with the largest norms" if len(shown) < units else f"{units} {of}"
    pictures, labels = np.moveaxis(weights[..., shown], 3, 0), [labels[unit] for unit in shown]
    if several:
        title += f", channels 0 to {columns - 1} of {channels}"
        pictures = np.moveaxis(pictures[..., :columns], 3, 1).reshape(-1, *weights.shape[:2], 1)
        labels = [f"{label}: {channel}" for label in labels for channel in range(columns)]
    if channels == 3:
        title += " (grey: 0)"
    return _draw(f"{name}: weights of {title}", pictures, labels, min(columns, len(pictures)))


def _draw(title: str, pictures: NDArray[np.float32], labels: Sequence[str], columns: int) -> Figure:
    rows = ceil(len(pictures) / columns)
    _, height, width, channels = pictures.shape
    beside, above = ceil(width / 10), ceil(width / 3)
    limit = float(np.abs(pictures).max()) or 1.0
    colored = channels == 3
    # Colours are relative to a medium grey. The background is white.
    shape = (rows * (above + height), columns * (width + beside))
    mosaic = np.ones((*shape, 3)) if colored else np.full(shape, np.nan)
    figure, (axes, bar) = panels(title, (columns, 0.15), rows * min((above + height) / (width + beside), TALLEST))
    for axis in (axes, bar):
        axis.set_axis_off()
    for position, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        top, left = position // columns * (above + height) + above, position % columns * (width + beside)
        pixels = picture / (2 * limit) + 0.5 if colored else picture[:, :, 0]
        mosaic[top : top + height, left : left + width] = pixels
        axes.text(left + width / 2 - 0.5, top - 0.5 - width / 30, label, ha="center", fontsize=9)
    # A single image for all: separate axes for each take ten times as long.
    image = axes.imshow(mosaic, cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    if not colored:
        bar.set_axis_on()
        figure.colorbar(image, cax=bar, label="weight", ticks=[-limit, 0, limit], format="%.2g", ticklocation="left")
    return figure
