from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib import image
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from sklearn import metrics

from core import Linear
from service.analysis.curves import draw_learning_curves
from service.analysis.first_layer import draw_first_layer
from service.analysis.measures import calibration
from service.analysis.pictures import Subject, draw_pictures
from service.analysis.predicted.certainty import draw_margins_and_confidence
from service.analysis.predicted.confusion import draw_confusion_matrix, most_confused
from service.analysis.predictions import Predictions
from service.analysis.style import BLUE, png
from service.visible_text import visible
from tests.service.fixtures.models import model_of
from tests.workers.fixtures.helpers import assignment, blobs, completed, job, last_checkpoint
from workers.record.history_files import read_history

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes


def predictions(scores: Any, labels: Any, classes: int | None = None) -> Predictions:
    table = np.asarray(scores, np.float32)
    names = tuple(f"class {index}" for index in range(classes or table.shape[1]))
    return Predictions(table, np.asarray(labels, np.int64), names, np.arange(len(table)), "validation", len(table), 9)


def random_predictions(rows: int = 500, classes: int = 7, seed: int = 3) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    scores = random.normal(size=(rows, classes)) * 2
    scores[np.arange(rows), labels] += 2
    return predictions(scores, labels)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_confusion_matrix_equals_that_of_scikit_learn() -> None:
    found = random_predictions()
    expected = metrics.confusion_matrix(found.truth, found.scores.argmax(axis=1), labels=range(7))
    figure = draw_confusion_matrix("a job", found)
    assert figure is not None
    axes, words = figure.axes
    shares = expected / expected.sum(axis=1, keepdims=True)
    assert np.allclose(axes.images[0].get_array(), shares)
    cells = {(int(y), int(x)): text.get_text() for text in axes.texts for x, y in [text.get_position()]}
    assert cells == {
        (row, column): f"{count}\n{share:.0%}"
        for (row, column), count in np.ndenumerate(expected)
        if (share := shares[row, column])
    }
    accuracy = metrics.accuracy_score(found.truth, found.scores.argmax(axis=1))
    assert f"{accuracy:.2%}" in texts(words)[0]


def test_the_most_confused_pairs_are_named() -> None:
    matrix = np.array([[9, 4, 0], [0, 5, 7], [4, 1, 100]])
    assert most_confused(matrix, 3) == [(1, 2, 7), (0, 1, 4), (2, 0, 4)]
    assert most_confused(np.diag([3, 3]), 5) == []
    found = predictions([[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], [0, 0, 1, 2])
    figure = draw_confusion_matrix("a job", found)
    assert figure is not None
    assert "2 × class 0 → class 1\n" in texts(figure.axes[1])[0]


def test_confusion_matrix_of_one_row_and_of_too_many_classes() -> None:
    figure = draw_confusion_matrix("a job", predictions([[1, 0, 0]], [0]))
    assert figure is not None
    assert texts(figure.axes[0]) == ["1\n100%"]
    assert draw_confusion_matrix("a job", predictions(np.eye(201), range(201))) is None


@pytest.mark.parametrize("length", [1, 9, 60])
def test_no_text_is_cut_off(length: int) -> None:
    found = replace(random_predictions(), names=(("mushroom " * 8)[:length],) * 7)
    name = "a job of $ " + "name " * 38
    figures = [
        draw_confusion_matrix(name, found),
        draw_margins_and_confidence(name, {"loss": {"type": "softmax"}}, found),
        draw_first_layer(name, model_of([Linear(7)], 64), found.names),
    ]
    for figure in figures:
        assert figure is not None
        png(figure)
        for text in figure.findobj(Text):
            extent = text.get_window_extent()
            inside = extent.x0 >= 0 and extent.y0 >= 0 and extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1
            assert inside or not text.get_visible() or not text.get_text(), (text, extent, figure.bbox)


def test_content_of_the_certainty_figure() -> None:
    found = random_predictions()
    figure = draw_margins_and_confidence("a job", {"loss": {"type": "hinge", "margin": 2.5}}, found)
    first, second, third = figure.axes
    for axes in (first, second):
        right, whole = (patch.get_data() for patch in axes.patches)
        wrong = whole.values - right.values
        assert right.values.sum() == (found.predicted == found.truth).sum()
        assert whole.values.sum() == len(found.truth)
        assert wrong.min() >= 0
    assert 2.5 in {line.get_xdata()[0] for line in first.lines}
    below = first.patches[0].get_data()
    assert below.values[below.edges[1:] <= 0].sum() == 0, "correctly classified rows have no negative margin"
    bins = calibration(found.scores, found.truth)
    points = third.lines[0].get_xydata()
    assert points.tolist() == np.stack([bins.confidence, bins.accuracy], axis=1)[bins.counts > 0].tolist()
    assert f"{bins.error:.4f}" in third.get_title(loc="left")


def subject_of(directory: Path, **changes: Any) -> Subject:
    """A trained job."""
    dataset = blobs(directory, features=25)
    given = assignment(job(**changes), dataset, directory / "job")
    completed(given)
    return Subject(given.job, "a $job", given.directory, given.spec, dataset, dataset.classes)


def test_content_of_the_learning_curves(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, **{"training.epochs": 40})
    history = read_history(subject.directory)
    figure = draw_learning_curves(subject.name, subject.spec, subject.dataset, history, kept=12)
    table = history.to_pydict()
    steps_of_epoch = 6  # 266 rows in batches of 50
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=False):
        training, validation, kept = axes.lines
        expected = [
            (step / steps_of_epoch, value)
            for step, value in zip(table["step"], table[f"val/{name}"], strict=True)
            if value is not None
        ]
        assert validation.get_xydata().tolist() == [list(point) for point in expected]
        assert kept.get_xdata()[0] == 2
        assert training.get_xdata().tolist() == list(range(1, 41))
        # Means over the rows of an epoch, the last batch of which is smaller.
        values = np.array(table["train/data_loss" if name == "loss" else "train/accuracy"]).reshape(40, steps_of_epoch)
        rows = np.array([50] * 5 + [16])
        assert training.get_ydata() == pytest.approx(values @ rows / rows.sum(), rel=1e-9)
        (band,) = axes.collections
        assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(values.max())
    active, _ = figure.axes[2].lines
    assert to_rgba(active.get_color()) == to_rgba(BLUE)
    assert figure.texts[0].get_text().endswith("learning curves (kept parameters: step 12)")


def test_a_short_job_shows_each_batch(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, **{"training.epochs": 1, "data.validation": 0.0})
    history = read_history(subject.directory)
    figure = draw_learning_curves(subject.name, subject.spec, subject.dataset, history, None)
    assert figure.axes[0].lines[0].get_ydata().tolist() == history.column("train/data_loss").to_pylist()
    assert not len(figure.axes[0].lines[1].get_xydata())
    assert png(figure)


PNGS = {"learning_curves.png", "first_layer.png", "confusion_matrix.png", "margins_and_confidence.png"}


def test_all_pictures_of_a_job(tmp_path: Path) -> None:
    pictures = draw_pictures(subject_of(tmp_path))
    assert pictures.failures == {}
    assert set(pictures.files) == PNGS | {"graph.svg"}
    for name in PNGS:
        assert image.imread(io.BytesIO(pictures.files[name])).std() > 0.01


def test_the_graph_shows_blocks_folded_and_expanded(tmp_path: Path) -> None:
    block = {"type": "repeat", "times": 2, "layers": [{"type": "linear", "units": 8}], "name": "trunk"}
    pictures = draw_pictures(subject_of(tmp_path, **{"model.layers": [block, {"type": "linear", "units": 3}]}))
    assert pictures.failures == {}
    folded, expanded = (pictures.files[name].decode() for name in ("graph.svg", "graph_expanded.svg"))
    assert "trunk: repeat" in folded
    assert "trunk_0: linear" not in folded
    assert "trunk: repeat" not in expanded
    assert "trunk_0: linear" in expanded


def test_without_a_checkpoint_only_curves_and_graph_are_drawn(tmp_path: Path) -> None:
    subject = subject_of(tmp_path)
    (subject.directory / "checkpoints").rename(tmp_path / "elsewhere")
    pictures = draw_pictures(subject)
    assert (set(pictures.files), pictures.failures) == ({"learning_curves.png", "graph.svg"}, {})


def test_a_picture_that_cannot_be_drawn_does_not_affect_others(tmp_path: Path) -> None:
    subject = subject_of(tmp_path)
    (file,) = (subject.directory / "history").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    pictures = draw_pictures(subject)
    assert set(pictures.files) == {*PNGS, "graph.svg"} - {"learning_curves.png"}
    assert "cannot be read" in pictures.failures["learning_curves.png"]

    gone = replace(subject, dataset=replace(subject.dataset, path=str(tmp_path / "gone.arrow")))
    pictures = draw_pictures(gone)
    assert set(pictures.files) == {"first_layer.png", "graph.svg"}
    assert pictures.failures["predictions"].startswith("DatasetError: the dataset's file is gone")

    weights = last_checkpoint(subject.directory) / "best.safetensors"
    weights.write_bytes(b"x")
    assert "CheckpointError" in draw_pictures(subject).failures["predictions"]


def test_the_history_can_be_empty(tmp_path: Path) -> None:
    subject = subject_of(tmp_path)
    for file in (subject.directory / "history").iterdir():
        file.unlink()
    assert read_history(subject.directory).equals(pa.Table.from_batches([], read_history(subject.directory).schema))
    assert "learning_curves.png" not in draw_pictures(subject).files


# Formulas that are wrong, a sequence of a terminal, line ends, NUL, half of a surrogate pair, a leading underscore.
HOSTILE = ("$\\frac{$ $x_{$", "\x1b[2J", "a\r\nb\u2028c", "\0", "\ud83d", "_hidden", "\\$", "$$", "", " ", "{} %s \\n")


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("name", ["$\\frac{$ $x_{$", "\ud83d\0\x1b[2J\r\n", " "])
def test_names_do_not_break_a_picture(name: str) -> None:
    found = replace(random_predictions(classes=len(HOSTILE)), names=HOSTILE)
    confusion = draw_confusion_matrix(name, found)
    figures = [
        confusion,
        draw_margins_and_confidence(name, {"loss": {"type": "softmax"}}, found),
        draw_first_layer(name, model_of([Linear(len(HOSTILE))], 64), found.names),
    ]
    for figure in figures:
        assert figure is not None
        png(figure)
    assert confusion is not None
    labels = [label.get_text().replace("\\$", "$") for label in confusion.axes[0].get_xticklabels()]
    assert labels == [visible(text) if len(visible(text)) < 15 else f"{visible(text)[:13]}…" for text in HOSTILE]
