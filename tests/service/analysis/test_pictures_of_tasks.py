"""Pictures of jobs that predict values, two classes with one score, or several labels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib import image
from matplotlib.text import Text
from sklearn import metrics

from service.analysis.pictures import Subject, draw_pictures
from service.analysis.predicted.confusion import draw_confusion_matrix
from service.analysis.predicted.per_label import MOST_LABELS, draw_per_label
from service.analysis.predicted.rankings import draw_rankings
from service.analysis.predicted.values import MOST_TARGETS, draw_values
from service.analysis.predictions import Predictions
from service.analysis.style import png
from tests.workers.fixtures.helpers import assignment, completed
from tests.workers.fixtures.tasks import COLUMNS, dataset_of, job_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from core import Task

PNGS = {
    "classification": {"confusion_matrix.png", "margins_and_confidence.png"},
    "binary": {"confusion_matrix.png", "roc_and_precision_recall.png"},
    "multilabel": {"labels.png", "roc_and_precision_recall.png"},
    "regression": {"predictions.png"},
}


@pytest.mark.parametrize("task", PNGS)
def test_pictures_of_a_task(tmp_path: Path, task: Task) -> None:
    dataset = dataset_of(task, tmp_path)
    given = assignment(job_of(task, **{"training.epochs": 2}), dataset, tmp_path / "job")
    completed(given)
    names = dataset.classes or COLUMNS[task]
    pictures = draw_pictures(Subject(given.job, "a job", given.directory, given.spec, dataset, names))
    assert pictures.failures == {}
    assert set(pictures.files) == PNGS[task] | {"learning_curves.png", "graph.svg"}
    for name in set(pictures.files) - {"graph.svg"}:
        assert image.imread(io.BytesIO(pictures.files[name])).std() > 0.01


RANDOM = np.random.default_rng(5)


def found_of(task: Task, scores: Any, truth: Any, names: tuple[str, ...]) -> Predictions:
    table = np.asarray(scores, np.float32)
    return Predictions(table, np.asarray(truth), names, np.arange(len(table)), "validation", len(table), 9, task)


def regression(targets: int = 2, rows: int = 300) -> Predictions:
    truth = RANDOM.normal(size=(rows, targets)).astype(np.float32) * 100 + 1000
    scores = truth + RANDOM.normal(size=truth.shape) * np.arange(1, targets + 1) * 10
    return found_of("regression", scores, truth, tuple(f"target {index}" for index in range(targets)))


def binary(rows: int = 300) -> Predictions:
    truth = RANDOM.integers(0, 2, rows)
    scores = RANDOM.normal(size=(rows, 1)).round(1) + truth[:, None]  # with ties
    return found_of("binary", scores, truth, ("no", "yes"))


def multilabel(labels: int = 3, rows: int = 300) -> Predictions:
    truth = (RANDOM.random((rows, labels)) < np.linspace(0.1, 0.6, labels)).astype(np.float32)
    scores = RANDOM.normal(size=truth.shape) + 2 * truth - 1
    return found_of("multilabel", scores, truth, tuple(f"label {index}" for index in range(labels)))


def legend(axes: Axes) -> list[str]:
    drawn = axes.get_legend()
    assert drawn is not None
    return [text.get_text() for text in drawn.get_texts()]


def test_content_of_the_predictions() -> None:
    found = regression()
    figure = draw_values("a job", found)
    for target in range(2):
        first, second, third = figure.axes[3 * target : 3 * target + 3]
        truth, predicted = (array[:, target].astype(np.float64) for array in (found.truth, found.scores))
        r2, mae = metrics.r2_score(truth, predicted), metrics.mean_absolute_error(truth, predicted)
        rmse = metrics.root_mean_squared_error(truth, predicted)
        assert first.get_title(loc="left") == f"target {target}: R² {r2:.4f}"
        assert second.get_title(loc="left") == f"target {target}: residuals, RMSE {rmse:.4g}"
        assert third.get_title(loc="left") == f"target {target}: error, MAE {mae:.4g}"
        assert np.array_equal(first.lines[0].get_xydata(), np.stack([truth, predicted], axis=1))
        assert np.array_equal(second.lines[0].get_xydata(), np.stack([predicted, predicted - truth], axis=1))
        counts, edges, _ = third.patches[0].get_data()
        assert counts.sum() == 300
        assert (edges[0], edges[-1]) == ((predicted - truth).min(), (predicted - truth).max())


def test_of_many_targets_the_worst_are_drawn() -> None:
    figure = draw_values("a job", regression(targets=MOST_TARGETS + 3))
    titles = [axes.get_title(loc="left") for axes in figure.axes[::3]]
    # Errors grow with the number of the target.
    assert [title.partition(":")[0] for title in titles] == [f"target {index}" for index in range(3, 3 + MOST_TARGETS)]
    assert "the 4 of 7 targets with the lowest R²" in figure.texts[0].get_text().replace("\n", " ")


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_values_of_any_size_are_drawn(scale: float) -> None:
    found = regression(targets=1)
    png(draw_values("a job", found_of("regression", found.scores * scale, found.truth * scale, ("t",))))


def test_predictions_that_are_not_finite_are_named() -> None:
    found = regression(targets=1)
    found.scores[3] = np.inf
    with pytest.raises(ValueError, match="1 of 300 are not"):
        draw_values("a job", found)


def test_content_of_the_rankings() -> None:
    found = binary()
    figure = draw_rankings("a job", found)
    assert figure is not None
    first, second = figure.axes
    scores = found.scores[:, 0]
    area, precision = metrics.roc_auc_score(found.truth, scores), metrics.average_precision_score(found.truth, scores)
    assert legend(first) == [f"AUC {area:.4f}: yes"]
    assert legend(second)[0] == f"AP {precision:.4f}: yes"
    false, true, _ = metrics.roc_curve(found.truth, scores, drop_intermediate=False)
    assert first.lines[1].get_xydata() == pytest.approx(np.stack([false, true], axis=1))
    # scikit-learn's curve ends, beyond the highest score, with precision 1 and recall 0.
    precisions, recalls, _ = metrics.precision_recall_curve(found.truth, scores)
    drawn = second.lines[1].get_xydata()
    assert drawn[1:] == pytest.approx(np.stack([recalls, precisions], axis=1)[:-1][::-1])


def test_both_classes_of_two_scores_and_each_of_several_labels_are_ranked() -> None:
    truth = RANDOM.integers(0, 2, 200)
    scores = RANDOM.normal(size=(200, 2))
    two = draw_rankings("a job", found_of("classification", scores, truth, ("no", "yes")))
    assert two is not None
    lead = (scores.astype(np.float32)[:, 1] - scores.astype(np.float32)[:, 0]).astype(np.float64)
    expected = [metrics.average_precision_score(truth == k, sign * lead) for k, sign in ((0, -1), (1, 1))]
    assert [float(text.split()[1].rstrip(":")) for text in legend(two.axes[1])[:2]] == pytest.approx(expected, abs=6e-5)
    found = multilabel()
    several = draw_rankings("a job", found)
    assert several is not None
    areas = metrics.roc_auc_score(found.truth, found.scores, average=None)
    assert legend(several.axes[0]) == [f"AUC {area:.4f}: label {k}" for k, area in enumerate(areas)]
    assert draw_rankings("a job", multilabel(labels=6)) is None


def test_a_label_without_rows_is_drawn() -> None:
    found = multilabel()
    found.truth[:, 1] = 0
    found.truth[:, 2] = 1
    figure = draw_rankings("a job", found)
    assert figure is not None
    png(figure)
    png(draw_per_label("a job", found))


def test_content_of_the_labels() -> None:
    found = multilabel()
    (axes,) = draw_per_label("a job", found).axes
    expected = metrics.precision_recall_fscore_support(found.truth, found.scores > 0)
    for container, values in zip(axes.containers, expected[:3], strict=True):
        assert [bar.get_height() for bar in container] == pytest.approx(values)
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [f"label {k} ({int(rows)})" for k, rows in enumerate(expected[3])]
    many = draw_per_label("a job", multilabel(labels=MOST_LABELS + 5))
    assert len(many.axes[0].get_xticklabels()) == MOST_LABELS


def test_the_confusion_matrix_of_one_score() -> None:
    found = binary()
    figure = draw_confusion_matrix("a job", found)
    assert figure is not None
    expected = metrics.confusion_matrix(found.truth, found.scores[:, 0] > 0)
    cells = {(int(y), int(x)): text.get_text() for text in figure.axes[0].texts for x, y in [text.get_position()]}
    assert {place: int(text.partition("\n")[0]) for place, text in cells.items()} == dict(np.ndenumerate(expected))


def figures_with(name: str, names: tuple[str, str]) -> list[Figure]:
    values, one, labels = regression(), binary(), multilabel(labels=2)
    figures = [
        draw_values(name, found_of("regression", values.scores, values.truth, names)),
        draw_rankings(name, found_of("binary", one.scores, one.truth, names)),
        draw_rankings(name, found_of("multilabel", labels.scores, labels.truth, names)),
        draw_per_label(name, found_of("multilabel", labels.scores, labels.truth, names)),
    ]
    return [figure for figure in figures if figure is not None]


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("text", ["$\\frac{$ $x_{$", "\x1b[2J\r\n\u2028", "\0\ud83d", "_hidden", "\\$", "$$", " "])
def test_names_do_not_break_a_picture(text: str) -> None:
    for figure in figures_with(text, (text, text)):
        png(figure)


def hidden_tick_labels(figure: Figure) -> Iterator[Text]:
    """Labels of ticks beyond the ends of an axis, which are not drawn."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def test_no_text_is_cut_off() -> None:
    figures = figures_with("a job of $ " + "name " * 38, ("mushroom " * 8, "m" * 60))
    assert len(figures) == 4
    for figure in figures:
        png(figure)
        for text in set(figure.findobj(Text)) - set(hidden_tick_labels(figure)):
            extent = text.get_window_extent()
            inside = extent.x0 >= 0 and extent.y0 >= 0 and extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1
            assert inside or not text.get_visible() or not text.get_text(), (text, extent, figure.bbox)
