"""The weights of a linear layer on images, drawn as images: the lecture's templates, one per class."""

from __future__ import annotations

from math import ceil, isqrt, prod
from typing import TYPE_CHECKING

import numpy as np

from core import Linear
from core.layers.shape.base import Reshaping
from service.analysis.style import panels, plain
from service.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from core import Graph, Model

SMALLEST = 5  # pixels per side of an image
MOST_PICTURES, COLUMNS = 40, 10


def image_shape(features: int, known: Sequence[int] | None) -> tuple[int, int, int] | None:
    """Return height, width and channels (1 or 3) of the images with this number of features; None if there are none.

    `known` is the shape of a row in the dataset. Without it, a square number of features is a greyscale image.
    """
    side = isqrt(features)
    sides = (side, side) if known is None else tuple(known)
    if len(sides) not in {2, 3}:
        return None
    height, width, *channels = sides
    shape = height, width, prod(channels)
    return shape if prod(shape) == features and shape[2] in {1, 3} and min(height, width) >= SMALLEST else None


def draw_weight_templates(
    name: str, model: Model, classes: Sequence[str], known: Sequence[int] | None = None
) -> Figure | None:
    """Draw each column of the weights of the first layer; None if it is not a linear layer on images.

    `known` is the shape of a row in the dataset, if it has one. If there are more than `MOST_PICTURES` units, those
    whose weights have the largest norms are drawn.
    """
    layer = _first_linear(model.graph)
    if layer is None:
        return None
    weights = model.tensors[f"{model.graph.owner(layer)}.weight"]
    _, *read = model.graph.shapes()["features"]
    shape = image_shape(len(weights), read if len(read) == 3 else known)
    if shape is None:
        return None
    units = weights.shape[1]
    shown = np.sort(np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:MOST_PICTURES])
    titles = [plain(visible(classes[unit])[:12]) if layer == "scores" else f"unit {unit}" for unit in shown]
    return _draw(name, layer, weights.T[shown].reshape(-1, *shape), titles, units)


def _first_linear(graph: Graph) -> str | None:
    """Return the linear layer that alone reads the features, as they are or in another shape; None without one."""
    value = "features"
    while True:
        readers = [name for name, placed in graph.nodes.items() if value in placed.inputs]
        if len(readers) != 1:
            return None
        (value,) = readers
        node = graph.nodes[value].node
        if isinstance(node, Linear):
            return value
        if not isinstance(node, Reshaping):
            return None


def _draw(name: str, layer: str, pictures: NDArray[np.float32], titles: Sequence[str], units: int) -> Figure:
    of = "classes" if layer == "scores" else f"units of {layer}"
    among = f"the {len(pictures)} of {units} {of} with the largest norms" if len(pictures) < units else f"{units} {of}"
    columns = min(COLUMNS, len(pictures))
    rows = ceil(len(pictures) / columns)
    _, height, width, channels = pictures.shape
    beside, above = ceil(width / 10), ceil(width / 3)
    limit = float(np.abs(pictures).max()) or 1.0
    colored = channels == 3
    # Colours are relative to a medium grey. The background is white.
    shape = (rows * (above + height), columns * (width + beside))
    mosaic = np.ones((*shape, 3)) if colored else np.full(shape, np.nan)
    figure, (axes, bar) = panels(
        f"{name}: weights of {among}", (columns, 0.15), rows * (above + height) / (width + beside)
    )
    for axis in (axes, bar):
        axis.set_axis_off()
    for position, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        top, left = position // columns * (above + height) + above, position % columns * (width + beside)
        pixels = picture / (2 * limit) + 0.5 if colored else picture[:, :, 0]
        mosaic[top : top + height, left : left + width] = pixels
        axes.text(left + width / 2 - 0.5, top - 0.5 - width / 30, title, ha="center", fontsize=9)
    # A single image for all: separate axes for each take ten times as long.
    image = axes.imshow(mosaic, cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    if not colored:
        bar.set_axis_on()
        figure.colorbar(image, cax=bar, label="weight", ticks=[-limit, 0, limit], format="%.2g", ticklocation="left")
    return figure
