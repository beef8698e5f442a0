"""The picture of activation maps shows the values of the layers, computed here by their definitions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.analysis.activation_maps import draw_activation_maps
from service.analysis.pictures import Subject, draw_pictures
from service.analysis.predictions import predict
from service.analysis.style import png
from service.analysis.trained_model import load_trained_model
from tests.workers.fixtures.helpers import assignment, completed, images, job
from workers.data.dataset import open_dataset
from workers.data.splitting import split

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from service.analysis.predictions import Predictions
    from service.analysis.trained_model import TrainedModel

Pixels = np.ndarray[Any, np.dtype[np.floating[Any]]]

CONVOLUTION: list[dict[str, Any]] = [
    {"type": "conv2d", "filters": 12, "kernel": [2, 3], "bias": {"type": "normal", "std": 1}},
    {"type": "relu"},
    {"type": "max_pool2d", "kernel": 2, "name": "pool"},
    {"type": "flatten"},
    {"type": "linear", "units": 3},
]


def trained_on_images(directory: Path, layers: list[dict[str, Any]], **changes: Any) -> Subject:
    """A job trained on images of 5 x 6 pixels and two channels."""
    dataset = images(directory)
    spec = job(**{"data.validation": 0.3, "model.layers": layers, "training.epochs": 1, **changes})
    given = assignment(spec, dataset, directory / "job")
    completed(given)
    return Subject(given.job, "a $job", given.directory, given.spec, dataset, dataset.classes)


def predicted(subject: Subject) -> tuple[TrainedModel, Predictions]:
    trained = load_trained_model(subject.directory, subject.job, subject.spec, subject.dataset)
    return trained, predict(trained, subject.spec, subject.dataset, subject.names)


def drawn(subject: Subject) -> Figure:
    trained, found = predicted(subject)
    figure = draw_activation_maps(subject.name, trained, subject.dataset, found)
    assert figure is not None
    assert png(figure)
    return figure


def rows_of(figure: Figure) -> dict[str, tuple[str, Axes]]:
    """Each row of a figure by the first line of its label: the other lines, and its axes."""
    labels = [axes.texts[0].get_text().partition("\n") for axes in figure.axes]
    return {first: (rest, axes) for (first, _, rest), axes in zip(labels, figure.axes, strict=True)}


def maps(axes: Axes) -> Pixels:
    """The pictures in a row, (count, height, width), from left to right."""
    lefts = [image.get_extent()[0] for image in axes.images]
    assert lefts == sorted(lefts)
    assert len(lefts) == 1 or np.diff(lefts).min() > 1, "pictures of one inch"
    return np.stack([np.ma.getdata(image.get_array()) for image in axes.images])


def test_the_maps_are_the_values_of_the_layers(tmp_path: Path) -> None:
    subject = trained_on_images(tmp_path, CONVOLUTION, **{"data.standardize": True})
    features, labels = open_dataset(subject.dataset)
    training, validation = split(len(labels), 0.3, subject.spec["training"]["seed"])
    number = validation.min()
    pixels = features[number].astype(np.float64)
    known = features[np.sort(training)].astype(np.float64)
    image = ((pixels - known.mean(axis=0)) / known.std(axis=0)).reshape(5, 6, 2)

    trained, found = predicted(subject)
    weight, bias = (trained.model.tensors[f"0_conv2d.{name}"].astype(np.float64) for name in ("weight", "bias"))
    convolved = np.empty((4, 4, 12))
    for y, x, each in np.ndindex(convolved.shape):
        convolved[y, x, each] = (image[y : y + 2, x : x + 3] * weight[..., each]).sum() + bias[each]
    rectified = np.maximum(convolved, 0)
    pooled = rectified.reshape(2, 2, 2, 2, 12).max(axis=(1, 3))

    rows = rows_of(drawn(subject))
    assert list(rows) == ["image", "0_conv2d: conv2d", "1_relu: relu", "pool: max_pool2d"]
    raw = pixels.reshape(5, 6, 2)
    for label, value, count in (
        ("image", raw, 2),
        ("0_conv2d: conv2d", convolved, 10),
        ("1_relu: relu", rectified, 10),
        ("pool: max_pool2d", pooled, 10),
    ):
        words, axes = rows[label]
        shown = maps(axes)
        assert shown.shape == (count, *value.shape[:2])
        assert np.allclose(shown, value[..., :count].transpose(2, 0, 1), rtol=1e-4, atol=1e-4)
        assert {each.get_clim() for each in axes.images} == {(shown.min(), shown.max())}
        which = "2 channels" if count == 2 else "first 10 of 12 channels"
        assert words == f"{value.shape[0]} x {value.shape[1]}, {which}\nfrom {shown.min():.3g} to {shown.max():.3g}"

    true, guess = (subject.names[int(each[0])] for each in (labels[number : number + 1], found.predicted))
    words = " ".join(drawn(subject).texts[0].get_text().split())
    assert words == (rf"a \$job: activation maps of validation row {number} (true class {true}, predicted {guess})")


def test_dropout_does_not_drop_and_running_averages_are_used(tmp_path: Path) -> None:
    layers = [*CONVOLUTION[:1], {"type": "batch_norm"}, {"type": "channel_dropout", "rate": 0.5}, *CONVOLUTION[3:]]
    subject = trained_on_images(tmp_path, layers)
    trained, _ = predicted(subject)
    rows = rows_of(drawn(subject))
    before, after, kept = (maps(rows[label][1]) for label in list(rows)[1:])
    scale, shift, mean, variance = (
        trained.model.tensors[f"1_batch_norm.{name}"][:10, None, None]
        for name in ("scale", "shift", "mean", "variance")
    )
    assert np.allclose(after, (before - mean) / np.sqrt(variance + 1e-5) * scale + shift, atol=1e-4)
    assert np.array_equal(kept, after)


def test_blocks_are_one_layer_and_heads_are_left_out(tmp_path: Path) -> None:
    same = {"type": "conv2d", "filters": 2, "kernel": 3, "padding": 1}
    layers = [
        {"type": "repeat", "times": 3, "layers": [same, {"type": "relu"}], "name": "trunk"},
        {"type": "max_pool2d", "kernel": [5, 6], "name": "one_pixel"},
        *CONVOLUTION[3:],
    ]
    head = {"reads": "trunk", "layers": [same, {"type": "relu"}, *CONVOLUTION[3:]]}
    subject = trained_on_images(tmp_path, layers, **{"model.heads": [head]})
    assert list(rows_of(drawn(subject))) == ["image", "trunk: repeat"]


def test_the_number_of_layers_is_bounded(tmp_path: Path) -> None:
    chain = [{"type": "relu", "name": f"layer_{number}"} for number in range(25)]
    subject = trained_on_images(tmp_path, [*CONVOLUTION[:1], *chain, *CONVOLUTION[3:]])
    figure = drawn(subject)
    expected = [f"layer_{number}: relu" for number in (1, 4, 6, 8, 11, 13, 15, 18, 20, 22, 24)]
    labels = list(rows_of(figure))
    assert labels[:2] == ["image", "0_conv2d: conv2d"]
    assert len(labels) == 13
    assert labels[-1] == expected[-1]
    places = [int(label.split(":")[0].removeprefix("layer_")) for label in labels[2:]]
    assert set(np.diff(places)) <= {2, 3}, "evenly spread"
    assert "; 12 of 26 layers" in figure.texts[0].get_text().replace("\n", " ")
    assert len(png(figure)) < 1_000_000


@pytest.mark.parametrize(
    "layers",
    [
        [{"type": "linear", "units": 3}],
        [{"type": "reshape", "shape": [10, 6]}, {"type": "conv1d", "filters": 2, "kernel": 3}, *CONVOLUTION[3:]],
    ],
    ids=["linear", "sequences"],
)
def test_without_images_inside_the_model_nothing_is_drawn(tmp_path: Path, layers: list[dict[str, Any]]) -> None:
    pictures = draw_pictures(trained_on_images(tmp_path, layers))
    assert "activation_maps.png" not in pictures.files
    assert pictures.failures == {}


def test_an_image_in_colour(tmp_path: Path) -> None:
    # 5 x 6 pixels of two channels are read as 5 x 4 pixels of three.
    layers = [{"type": "conv2d", "filters": 2, "kernel": 3}, *CONVOLUTION[3:]]
    subject = trained_on_images(tmp_path, layers, **{"model.inputs": [5, 4, 3]})
    _, found = predicted(subject)
    features, _ = open_dataset(subject.dataset)
    row = features[found.rows[0]].astype(np.float64)
    _, axes = rows_of(drawn(subject))["image"]
    expected = (row - row.min()) / (row.max() - row.min())
    assert np.allclose(axes.images[0].get_array(), expected.reshape(5, 4, 3))


def test_a_job_has_both_pictures(tmp_path: Path) -> None:
    subject = trained_on_images(tmp_path, CONVOLUTION)
    pictures = draw_pictures(subject)
    assert pictures.failures == {}
    assert {"first_layer.png", "activation_maps.png"} < set(pictures.files)


def test_training_rows_are_drawn_if_none_are_for_validation(tmp_path: Path) -> None:
    subject = trained_on_images(tmp_path, CONVOLUTION, **{"data.validation": 0.0})
    assert "maps of training row 0 (true class a," in drawn(subject).texts[0].get_text().replace("\n", " ")


def test_the_longest_names_stay_beside_the_pictures(tmp_path: Path) -> None:
    layers = [{"type": "conv2d_transpose", "filters": 2, "kernel": 3, "name": "n" * 64}, *CONVOLUTION[3:]]
    figure = drawn(trained_on_images(tmp_path, layers))
    axes = figure.axes[1]
    (text,) = axes.texts
    assert text.get_text().startswith("nnnnn")
    extent = text.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 < axes.get_window_extent().x0


def test_values_that_are_not_finite_do_not_set_the_limits(tmp_path: Path) -> None:
    subject = trained_on_images(tmp_path, CONVOLUTION)
    trained, found = predicted(subject)
    trained.model.tensors["0_conv2d.bias"][:2] = np.nan, np.inf
    figure = draw_activation_maps(subject.name, trained, subject.dataset, replace(found, task="regression"))
    assert figure is not None
    assert png(figure)
    assert figure.texts[0].get_text().endswith(f"validation row {found.rows[0]}"), "no classes"
    _, axes = rows_of(figure)["0_conv2d: conv2d"]
    finite = maps(axes)[2:]
    assert {image.get_clim() for image in axes.images} == {(finite.min(), finite.max())}


def test_pictures_of_images_with_long_sides_have_one_inch(tmp_path: Path) -> None:
    layers = [{"type": "conv2d", "filters": 2, "kernel": 1}, *CONVOLUTION[3:]]
    subject = trained_on_images(tmp_path, layers, **{"model.inputs": [15, 2, 2]})
    _, axes = rows_of(drawn(subject))["0_conv2d: conv2d"]
    assert [image.get_extent() for image in axes.images] == [
        pytest.approx((left, left + 2 / 15, 0, 1)) for left in (0, 1.1)
    ]
