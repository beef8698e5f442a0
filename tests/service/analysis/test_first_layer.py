"""The pictures of the first layer show its weights, pixel by pixel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import (
    Concat,
    Conv1d,
    Conv2d,
    Crop,
    Dropout,
    Entry,
    Flatten,
    Head,
    Linear,
    MaxPool2d,
    Model,
    ReLU,
    Reshape,
    Residual,
    ZeroPad,
    build_classifier,
    initialize,
)
from service.analysis.first_layer import draw_first_layer, image_shape
from service.analysis.style import png
from tests.service.fixtures.models import model_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = np.ndarray[Any, np.dtype[np.floating[Any]]]


BRANCHES = [Flatten(), Entry(Flatten(), "other", ("features",)), Entry(Concat(), None, ("0_flatten", "other"))]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def drawn(model: Model, classes: int = 3, known: tuple[int, ...] | None = None) -> Figure:
    figure = draw_first_layer("a job", model, [f"class {index}" for index in range(classes)], known)
    assert figure is not None
    assert png(figure)
    return figure


def title(figure: Figure) -> str:
    return " ".join(figure.texts[0].get_text().split())


def pictures(figure: Figure, height: int, width: int) -> list[Pixels]:
    """The pictures of a figure: what is drawn below each of its labels."""
    mosaic = np.ma.getdata(figure.axes[0].images[0].get_array())
    found = []
    for text in figure.axes[0].texts:
        middle, above = text.get_position()
        top, left = int(np.ceil(above)), round(middle + 0.5 - width / 2)
        found.append(mosaic[top : top + height, left : left + width])
    return found


@pytest.mark.parametrize(
    ("features", "known", "shape"),
    [
        (64, None, (8, 8, 1)),
        (784, None, (28, 28, 1)),
        (3072, None, None),
        (4, None, None),
        (65, None, None),
        (3072, (32, 32, 3), (32, 32, 3)),
        (70, (7, 10), (7, 10, 1)),
        (70, (7, 10, 1), (7, 10, 1)),
        (140, (7, 10, 2), (7, 10, 2)),
        (64, (4, 16), None),
        (64, (64,), None),
        (64, (9, 9), None),
    ],
)
def test_image_shape(features: int, known: tuple[int, ...] | None, shape: tuple[int, ...] | None) -> None:
    assert image_shape(features, known) == shape


def test_the_templates_are_the_columns_of_the_weights() -> None:
    model = model_of([Linear(3)], 64)
    figure = draw_first_layer("a job", model, ("ant", "$bee$", "cat"))
    assert figure is not None
    assert texts(figure.axes[0]) == ["ant", r"\$bee\$", "cat"]
    assert title(figure) == "a job: weights of 3 classes"
    weights = model.tensors["scores.weight"]
    for unit, pixels in enumerate(pictures(figure, 8, 8)):
        assert np.array_equal(pixels, weights[:, unit].reshape(8, 8))
    low, high = figure.axes[0].images[0].get_clim()
    assert (low, high) == pytest.approx((-np.abs(weights).max(), np.abs(weights).max()))


def test_templates_of_colour_images() -> None:
    model = model_of([Linear(2)], 105)
    weights = model.tensors["scores.weight"]
    _, second = pictures(drawn(model, 2, (5, 7, 3)), 5, 7)
    assert np.allclose(second, weights[:, 1].reshape(5, 7, 3) / np.abs(weights).max() / 2 + 0.5)


def test_templates_show_the_hidden_units_with_the_largest_weights() -> None:
    model = model_of([Linear(50), ReLU(), Linear(3)], 64)
    weights = model.tensors["0_linear.weight"]
    weights[:, :10] *= 1e-3
    figure = drawn(model)
    assert texts(figure.axes[0]) == [f"unit {unit}" for unit in range(10, 50)]
    assert title(figure) == "a job: weights of the 40 of 50 units of 0_linear with the largest norms"
    for unit, pixels in enumerate(pictures(figure, 8, 8), start=10):
        assert np.array_equal(pixels, weights[:, unit].reshape(8, 8))


def test_templates_of_a_model_that_reads_images() -> None:
    shaped = model_of([Flatten(), Linear(3)], (9, 8, 1))
    weights = shaped.tensors["scores.weight"]
    assert np.array_equal(pictures(drawn(shaped), 9, 8)[1], weights[:, 1].reshape(9, 8))


def test_the_filters_of_a_convolution_of_grey_images() -> None:
    model = model_of([Conv2d(12, kernel=(3, 5)), ReLU(), Flatten(), Linear(3)], (8, 8, 1))
    weights = model.tensors["0_conv2d.weight"]
    figure = drawn(model)
    assert title(figure) == "a job: weights of 12 filters of 0_conv2d"
    assert texts(figure.axes[0]) == [f"filter {number}" for number in range(12)]
    for number, pixels in enumerate(pictures(figure, 3, 5)):
        assert np.array_equal(pixels, weights[:, :, 0, number])
    assert figure.axes[0].images[0].get_clim()[1] == pytest.approx(np.abs(weights).max())


def test_filters_of_colour_images_are_in_colour() -> None:
    model = model_of([Conv2d(2, kernel=5), Flatten(), Linear(3)], (8, 8, 3))
    weights = model.tensors["0_conv2d.weight"]
    figure = drawn(model)
    assert title(figure) == "a job: weights of 2 filters of 0_conv2d (grey: 0)"
    for number, pixels in enumerate(pictures(figure, 5, 5)):
        assert np.allclose(pixels, weights[..., number] / np.abs(weights).max() / 2 + 0.5)


@pytest.mark.parametrize("channels", [2, 4])
def test_each_channel_is_a_picture_if_they_are_no_colours(channels: int) -> None:
    model = model_of([Conv2d(3, kernel=3), Flatten(), Linear(3)], (8, 8, channels))
    weights = model.tensors["0_conv2d.weight"]
    figure = drawn(model)
    places = [(number, channel) for number in range(3) for channel in range(channels)]
    assert texts(figure.axes[0]) == [f"filter {number}: {channel}" for number, channel in places]
    assert title(figure) == f"a job: weights of 3 filters of 0_conv2d, channels 0 to {channels - 1} of {channels}"
    for (number, channel), pixels in zip(places, pictures(figure, 3, 3), strict=True):
        assert np.array_equal(pixels, weights[:, :, channel, number])

    linear = model_of([Linear(2)], 30 * channels)
    figure = drawn(linear, 2, (5, 6, channels))
    template = linear.tensors["scores.weight"][:, 1].reshape(5, 6, channels)
    assert texts(figure.axes[0])[channels] == "class 1: 0"
    assert np.array_equal(pictures(figure, 5, 6)[channels + 1], template[:, :, 1])


def test_the_number_of_pictures_is_bounded() -> None:
    many = model_of([Conv2d(96, kernel=11, stride=4), Flatten(), Linear(3)], (27, 27, 3))
    weights = many.tensors["0_conv2d.weight"]
    weights[..., 10:66] *= 1e-3
    figure = drawn(many)
    kept = [*range(10), *range(66, 96)]
    assert texts(figure.axes[0]) == [f"filter {number}" for number in kept]
    assert title(figure) == "a job: weights of the 40 of 96 filters of 0_conv2d with the largest norms (grey: 0)"

    deep = model_of([Conv2d(96, kernel=3), Flatten(), Linear(3)], (5, 5, 64))
    norms = np.sqrt((deep.tensors["0_conv2d.weight"].astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    largest = sorted(np.argsort(norms)[-4:].tolist())
    figure = drawn(deep)
    assert texts(figure.axes[0]) == [f"filter {number}: {channel}" for number in largest for channel in range(10)]
    assert title(figure).endswith("the 4 of 96 filters of 0_conv2d with the largest norms, channels 0 to 9 of 64")


@pytest.mark.parametrize(
    "before",
    [[Reshape((8, 8, 1))], [Reshape((8, 8, 1)), ZeroPad(1), Dropout(0.1)]],
    ids=["reshape", "reshape, zero_pad, dropout"],
)
def test_filters_behind_layers_that_keep_the_pixels(before: list[Any]) -> None:
    model = model_of([*before, Entry(Conv2d(4, kernel=3), "stem"), Flatten(), Linear(3)], 64)
    figure = drawn(model)
    assert title(figure) == "a job: weights of 4 filters of stem"
    assert np.array_equal(pictures(figure, 3, 3)[2], model.tensors["stem.weight"][:, :, 0, 2])


def test_the_layer_of_a_head_is_not_the_first() -> None:
    head = Head("shaped", (Entry(Linear(3)),), name="side")
    layers = [Entry(Flatten(), "shaped"), Linear(4), ReLU(), Linear(3)]
    model = Model(build_classifier(layers, (8, 8, 1), [head]))
    model.parameters[:] = initialize(model.layout, 1)
    assert title(drawn(model)) == "a job: weights of 4 units of 1_linear"


@pytest.mark.parametrize(
    ("layers", "inputs"),
    [
        ([Linear(3)], 63),
        ([ReLU(), Linear(3)], 64),
        (
            [Flatten(), Entry(Flatten(), "b", ("features",)), Entry(Concat(), None, ("0_flatten", "b")), Linear(3)],
            (8, 8, 1),
        ),
        ([Crop(1), Flatten(), Linear(3)], (8, 8, 1)),
        ([Conv2d(4, kernel=1), Flatten(), Linear(3)], (8, 8, 3)),
        ([MaxPool2d(2), Conv2d(4, kernel=3), Flatten(), Linear(3)], (8, 8, 1)),
        ([Conv1d(4, kernel=3), Flatten(), Linear(3)], (16, 4)),
    ],
    ids=["no square", "relu", "branches", "cropped", "one pixel", "pooled", "sequences"],
)
def test_no_picture_without_a_first_layer_on_images(layers: list[Any], inputs: Any) -> None:
    assert draw_first_layer("a job", model_of(layers, inputs), ("a", "b", "c")) is None


def test_a_block_may_have_the_first_layer() -> None:
    branch = (Entry(Conv2d(2, kernel=1)),)
    block = Residual((Entry(Conv2d(2, kernel=3, padding=1)),), branch)
    model = model_of([Entry(block, "first"), Flatten(), Linear(3)], (8, 8, 1))
    figure = drawn(model)
    (layer,) = re.findall(r"2 filters of (\S+)$", title(figure))
    weights = model.tensors[f"{layer}.weight"]
    assert weights.shape == (3, 3, 1, 2), "not that of one pixel"
    assert np.array_equal(pictures(figure, 3, 3)[1], weights[:, :, 0, 1])


@pytest.mark.parametrize("shape", [(400, 5, 1), (5, 400, 1)])
def test_very_tall_and_very_wide_images_are_drawn_small(shape: tuple[int, int, int]) -> None:
    figure = drawn(model_of([Flatten(), Linear(40)], shape), 40)
    assert max(figure.get_size_inches()) < 20


def test_weights_of_zero_are_drawn() -> None:
    model = Model(build_classifier([Conv2d(2, kernel=3), Flatten(), Linear(3)], (5, 5, 3)))
    assert np.array_equal(pictures(drawn(model), 3, 3)[0], np.full((3, 3, 3), 0.5))
