"""What the layers make of one image: the values of each layer that are images themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core import Plan, Program
from core.graph.table import table_rows
from service.analysis.first_layer import row_shape
from service.analysis.style import panels, plain, shortened
from workers.data.dataset import open_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from core import Model
    from service.analysis.predictions import Predictions
    from service.analysis.trained_model import TrainedModel
    from workers.data.dataset import DatasetInfo

MOST_LAYERS, MOST_CHANNELS = 12, 10
# Inches: between pictures of one inch, of a row of pictures, and for the names of the layers.
GAP = 0.1
WIDTH = MOST_CHANNELS * (1 + GAP) - GAP
NAMES = 1.55
LONGEST_NAME = 32  # characters
CAPTION = "Black is the smallest and white the largest value of a layer, over the channels that are shown."


def draw_activation_maps(name: str, trained: TrainedModel, dataset: DatasetInfo, found: Predictions) -> Figure | None:
    """Draw the first of the rows that were predicted, and what the layers make of it; None if no value is an image.

    Blocks are one layer, and heads are left out. Of more than `MOST_LAYERS` layers, as many are drawn, evenly spread
    from the first to the last, and of each the first `MOST_CHANNELS` channels.

    Raises DatasetError if the data cannot be read.
    """
    model = trained.model
    kinds = _layers(model)
    if not kinds:
        return None
    layers = list(kinds)
    if len(layers) > MOST_LAYERS:
        layers = [layers[place] for place in np.linspace(0, len(layers) - 1, MOST_LAYERS).round().astype(int)]
    features, _ = open_dataset(dataset)
    row = found.rows[:1]
    maps = _maps(trained, features, row, layers)
    shape = row_shape(model, dataset.shape)
    begins = 0 if shape is None else 1  # a row of the picture for the image
    title = f"{name}: activation maps of {_in_words(found)}"
    if len(layers) < len(kinds):
        title += f"; {len(layers)} of {len(kinds)} layers"
    figure, axes = panels(title, (WIDTH,), 1, names=(NAMES, 0), rows=begins + len(layers), above=0.15)
    if shape is not None:
        _draw_image(axes[0], features[row[0]].astype(np.float32).reshape(shape))
    for axis, (layer, values) in zip(axes[begins:], maps.items(), strict=True):
        _draw_maps(axis, shortened(f"{layer}: {kinds[layer]}", LONGEST_NAME), values)
    for axis in axes:
        axis.set(xlim=(0, WIDTH), ylim=(0, 1))
    figure.text(0.12 / figure.get_figwidth(), 0.2 / figure.get_figheight(), CAPTION, fontsize=9)
    return figure


def _layers(model: Model) -> dict[str, str]:
    """Return the layers and blocks that make images of more than one pixel on the way to the scores: their types."""
    needed = {step.name for step in model.plan(1).program.instructions}
    return {
        row.name: row.type
        for row in table_rows(model.graph)
        if row.name in needed and len(row.shape) == 4 and row.shape[1:3] != (1, 1)
    }


def _maps(
    trained: TrainedModel, features: NDArray[np.generic], row: NDArray[np.int64], layers: Sequence[str]
) -> Mapping[str, NDArray[np.float32]]:
    """Return the values of layers in evaluation, (height, width, channels), for a row of the dataset."""
    model = trained.model
    program = Program.compile(model.graph, layers, batch=1, dtype=model.parameters.dtype, backward=False)
    plan = Plan(program, layout=model.layout, parameters=model.parameters)
    trained.load(features, row, plan.inputs["features"])
    plan.forward()
    return {layer: plan.value(layer)[0] for layer in layers}


def _in_words(found: Predictions) -> str:
    """Return which row is drawn: "validation row 3 (true class 5, predicted 6)"."""
    row = f"{found.source} row {found.rows[0]}"
    if found.task not in {"classification", "binary"}:
        return row
    true, predicted = (found.names[int(labels[0])] for labels in (found.truth, found.predicted))
    return f"{row} (true class {shortened(true, 20)}, predicted {shortened(predicted, 20)})"


def _draw_image(axes: Axes, image: NDArray[np.float32]) -> None:
    """Draw the image itself, before it is scaled: in colour if it has three channels."""
    if image.shape[2] == 3:
        low, high = float(image.min()), float(image.max())
        _label(axes, "image", image.shape, "3 channels, in colour", (low, high))
        _show(axes, 0, (image - low) / ((high - low) or 1.0))
    else:
        _draw_maps(axes, "image", image)


def _draw_maps(axes: Axes, name: str, values: NDArray[np.float32]) -> None:
    """Draw the first channels of an image beside each other, in grey."""
    channels = values.shape[2]
    shown = values[:, :, :MOST_CHANNELS]
    finite = shown[np.isfinite(shown)]
    limits = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    some = f"first {MOST_CHANNELS} of {channels}" if channels > MOST_CHANNELS else channels
    _label(axes, name, values.shape, f"{some} channel{'s' if channels > 1 else ''}", limits)
    for channel in range(shown.shape[2]):
        _show(axes, channel, shown[:, :, channel], limits)


def _show(
    axes: Axes, place: int, picture: NDArray[np.floating], limits: tuple[float | None, float | None] = (None, None)
) -> None:
    """Show a picture in one of the places of a row, of equal sizes."""
    longest = max(picture.shape[:2])
    height, width = (side / longest for side in picture.shape[:2])
    left = place * (1 + GAP)
    low, high = limits
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, extent=(left, left + width, 1 - height, 1))


def _label(axes: Axes, name: str, shape: Sequence[int], channels: str, limits: tuple[float, float]) -> None:
    lines = (plain(name), f"{shape[0]} x {shape[1]}, {channels}", "from {:.3g} to {:.3g}".format(*limits))
    axes.text(-0.75 - NAMES, 0.5, "\n".join(lines), va="center", fontsize=8)
    axes.set_axis_off()
