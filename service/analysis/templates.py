"""The weights of a linear layer on images as pictures: the lecture's templates, one for each class."""

from __future__ import annotations

from math import ceil, isqrt
from typing import TYPE_CHECKING

import numpy as np

from core import Linear
from service.analysis.style import panels, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from service.analysis.trained_model import TrainedModel

SMALLEST = 5  # pixels of a side: fewer features are hardly a picture
MOST_PICTURES, COLUMNS = 40, 10


def image_shape(features: int) -> tuple[int, ...] | None:
    """The square image of so many values, (side, side) or (3, side, side) as in CIFAR-10; None where there is none."""
    for shape in ((isqrt(features),) * 2, (3, *(isqrt(features // 3),) * 2)):
        if np.prod(shape) == features and shape[-1] >= SMALLEST:
            return shape
    return None


def draw_weight_templates(name: str, model: TrainedModel, classes: Sequence[str]) -> Figure | None:
    """Draw each column of the weights that the features meet first; None where that is no linear layer on images.

    Of more than `MOST_PICTURES` those with the largest norms.
    """
    readers = [layer for layer, placed in model.graph.nodes.items() if "features" in placed.inputs]
    if len(readers) != 1 or not isinstance(model.graph.nodes[readers[0]].node, Linear):
        return None
    (layer,) = readers
    weights = model.layout.views(model.parameters)[f"{model.graph.owner(layer)}.weight"]
    shape = image_shape(len(weights))
    if shape is None:
        return None
    units = weights.shape[1]
    shown = np.sort(np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:MOST_PICTURES])
    titles = [plain(classes[unit][:12]) if layer == "scores" else f"unit {unit}" for unit in shown]
    return _draw(name, layer, weights.T[shown].reshape(-1, *shape), titles, units)


def _draw(name: str, layer: str, pictures: NDArray[np.float32], titles: Sequence[str], units: int) -> Figure:
    of = "classes" if layer == "scores" else f"units of {layer}"
    among = f"the {len(pictures)} of {units} {of} with the largest ones" if len(pictures) < units else f"{units} {of}"
    columns = min(COLUMNS, len(pictures))
    rows, side = ceil(len(pictures) / columns), pictures.shape[-1]
    beside, above = ceil(side / 10), ceil(side / 3)
    limit = float(np.abs(pictures).max()) or 1.0
    colored = pictures.ndim == 4
    # Colours lie around a middle grey; where there is no number the paper stays white.
    shape = (rows * (above + side), columns * (side + beside))
    mosaic = np.ones((*shape, 3)) if colored else np.full(shape, np.nan)
    height = rows * (above + side) / (side + beside)
    figure, (axes, bar) = panels(f"{name}: weights of {among}", (columns, 0.15), height)
    for axis in (axes, bar):
        axis.set_axis_off()
    for position, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        top, left = position // columns * (above + side) + above, position % columns * (side + beside)
        pixels = np.moveaxis(picture, 0, -1) / (2 * limit) + 0.5 if colored else picture
        mosaic[top : top + side, left : left + side] = pixels
        axes.text(left + side / 2 - 0.5, top - 0.5 - side / 30, title, ha="center", fontsize=9)
    # One image of all of them: each picture in axes of its own takes ten times as long.
    image = axes.imshow(mosaic, cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    if not colored:
        bar.set_axis_on()
        figure.colorbar(image, cax=bar, label="weight", ticks=[-limit, 0, limit], format="%.2g", ticklocation="left")
    return figure
