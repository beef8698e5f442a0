"""Pictures of values of any size: the axes' limits and numbers, and texts that cover nothing."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pytest
from matplotlib.text import Text

from service.analysis.comparison_figure import Group, Values, draw_comparison
from service.analysis.curves import draw_learning_curves
from service.analysis.predicted.rankings import draw_rankings
from service.analysis.predicted.values import draw_values
from service.analysis.predictions import Predictions
from service.analysis.replica import Replica
from service.analysis.style import png
from tests.service.analysis.test_pictures_of_tasks import hidden_tick_labels
from tests.workers.fixtures.helpers import assignment, completed
from tests.workers.fixtures.tasks import dataset_of, job_of
from workers.record.history_files import read_history

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from core import Task
    from workers.data.dataset import DatasetInfo

RANDOM = np.random.default_rng(11)
SIZES = [(1e-6, 0.0), (1.0, 0.0), (1e29, 0.0), (1.0, 1e6)]  # factor and offset
ERROR, RMSE, R2 = "val/mean_absolute_error", "val/root_mean_squared_error", "val/r2"


def history_of(task: Task, directory: Path) -> tuple[dict[str, Any], DatasetInfo, pa.Table]:
    dataset = dataset_of(task, directory)
    given = assignment(job_of(task, **{"training.epochs": 8}), dataset, directory / "job")
    completed(given)
    return given.spec, dataset, read_history(given.directory)


def texts_of(figure: Figure) -> list[Any]:
    """The boxes of all texts and legends that are visible."""
    png(figure)
    texts = set(figure.findobj(Text)) - set(hidden_tick_labels(figure))
    texts = {text for text in texts if text.get_visible() and text.get_text()}
    return [(text.get_text(), text.get_window_extent()) for text in texts]


def check_texts(figure: Figure) -> None:
    boxes = texts_of(figure)
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (text, box), (other, other_box) in combinations(boxes, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        up = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert across <= 1 or up <= 1, f"{text!r} touches {other!r}"


@pytest.mark.parametrize(("factor", "offset"), SIZES)
def test_learning_curves_of_any_size(tmp_path: Path, factor: float, offset: float) -> None:
    spec, dataset, history = history_of("regression", tmp_path)
    for place, name in enumerate(history.column_names):
        if "loss" in name or "error" in name:
            history = history.set_column(place, name, pc.add(pc.multiply(history[name], factor), offset))
    figure = draw_learning_curves("a job", spec, dataset, history, 8)
    assert [axes.get_ylabel() for axes in figure.axes[1:]] == ["mean over 2 targets"] * 2
    errors = np.asarray(figure.axes[2].lines[-2].get_ydata(), np.float64)
    low, high = figure.axes[2].get_ylim()
    assert high - low < 3 * (errors.max() - errors.min()), "the curve fills a third of the panel"
    check_texts(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-2:] == ["validation", "kept parameters"]
    box = legend.get_window_extent()
    assert all(box.y1 < axes.get_window_extent().y0 for axes in figure.axes), "the legend covers no curve"
    assert not figure.axes[0].get_legend()


def test_an_active_fraction_that_is_always_one_is_not_drawn(tmp_path: Path) -> None:
    spec, dataset, history = history_of("binary", tmp_path)
    assert set(history["train/active_fraction"].to_pylist()) == {1.0}  # of a smooth loss
    figure = draw_learning_curves("a job", spec, dataset, history, None)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "accuracy"]
    name = "train/active_fraction"
    less = history.set_column(history.column_names.index(name), name, pc.subtract(history[name], 0.25))
    assert len(draw_learning_curves("a job", spec, dataset, less, None).axes) == 3


def found_of(task: Task, scores: Any, truth: Any, names: tuple[str, ...]) -> Predictions:
    table = np.asarray(scores, np.float32)
    return Predictions(table, truth, names, np.arange(len(table)), "validation", len(table), 9, task)


@pytest.mark.parametrize(("factor", "offset"), [(1e-2, 0.0), (3e-3, 0.0), *SIZES])
def test_predictions_of_any_size(factor: float, offset: float) -> None:
    truth = RANDOM.normal(size=(300, 1)).astype(np.float32)
    scores = truth + RANDOM.normal(size=truth.shape) * 0.1
    found = found_of("regression", scores * factor + offset, (truth * factor + offset).astype(np.float32), ("price",))
    check_texts(draw_values("a job", found))


def test_a_histogram_of_errors_names_the_rows_far_outside() -> None:
    truth = RANDOM.normal(size=(300, 1)).astype(np.float32)
    errors = RANDOM.normal(size=truth.shape)
    errors[:3] = [[1e4], [-1e4], [1e6]]
    axes: Axes = draw_values("a job", found_of("regression", truth + errors, truth, ("price",))).axes[2]
    counts, edges, _ = axes.patches[0].get_data()
    assert counts.sum() == 297
    assert np.count_nonzero(counts) > 8
    assert edges[-1] - edges[0] < 20
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[-1].get_text() == "3 rows beyond"


def test_a_label_of_no_row_or_of_every_row_has_no_area() -> None:
    scores = RANDOM.normal(size=(50, 3))
    truth = np.column_stack([np.zeros(50), np.ones(50), RANDOM.integers(0, 2, 50)]).astype(np.float32)
    figure = draw_rankings("a job", found_of("multilabel", scores, truth, ("none", "all", "some")))
    assert figure is not None
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        texts = [text.get_text() for text in legend.get_texts()]
        assert not [text for text in texts if "nan" in text]
    first = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert first[:2] == ["no AUC, no row has it: none", "no AUC, every row has it: all"]


def replicas_of_errors(factor: float, offset: float = 0.0) -> list[Replica]:
    made = []
    for _ in range(2):
        truth = RANDOM.normal(size=(60, 1)).astype(np.float32)
        scores = ((truth + RANDOM.normal(size=truth.shape)) * factor).astype(np.float32)
        course = {ERROR: RANDOM.uniform(1, 2, 6) * factor + offset, R2: RANDOM.uniform(0, 1, 6)}
        course["weights/norm"] = RANDOM.uniform(1, 2, 6)
        made.append(Replica(course, scores, truth * np.float32(factor), "regression"))
    return made


@pytest.mark.parametrize(("factor", "offset"), SIZES)
def test_a_comparison_by_the_absolute_error_shows_r2_as_well(factor: float, offset: float) -> None:
    group = Group("huber", "huber", replicas_of_errors(factor, offset))
    values = [Values("0.1", "huber", [factor + offset])]
    figure = draw_comparison("a sweep", [group], values, metric=ERROR, by="optimizer.lr")
    titles = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert titles == ["validation mean absolute error", "validation R²", "norm of the weights"]
    low, high = figure.axes[0].get_ylim()
    drawn = np.asarray(figure.axes[0].lines[0].get_ydata(), np.float64)
    assert high - low < 3 * (drawn.max() - drawn.min())
    check_texts(figure)
    legend = figure.axes[4].get_legend()
    assert legend is not None
    medians = [np.median(np.abs(replica.errors)) for replica in group.replicas]
    mean, spread = np.mean(medians), np.std(medians, ddof=1)
    assert legend.get_texts()[0].get_text() == f"median {mean:.3g} ± {spread:.2g}"


def test_a_comparison_of_a_single_row_by_the_root_mean_squared_error() -> None:
    groups = []
    for loss in ("squared_error", "absolute_error"):
        each = replicas_of_errors(1.0)[0]
        course = {**each.course, R2: np.full(6, np.nan), RMSE: each.course[ERROR]}
        groups.append(Group(loss, loss, [Replica(course, each.scores[:1], each.truth[:1], "regression")]))
    values = [Values(group.loss, group.loss, [0.5]) for group in groups]
    figure = draw_comparison("mean or median", groups, values, metric=RMSE, by="loss")
    titles = [axes.get_title(loc="left") for axes in (figure.axes[0], figure.axes[5])]
    assert titles == ["validation RMSE", "validation RMSE at other settings"]
    check_texts(figure)


def test_two_scores_and_one_score_have_margins_of_two_kinds() -> None:
    course = {name: np.ones(3) for name in ("val/accuracy", "train/active_fraction", "weights/norm")}
    truth = RANDOM.integers(0, 2, 40)
    one = Replica(course, RANDOM.normal(size=(40, 1)).astype(np.float32), truth, "binary")
    two = Replica(course, RANDOM.normal(size=(40, 2)).astype(np.float32), truth, "classification")
    signed, lead = "score, with the sign of the true label", "score of the true class − best other score"
    for replicas, words in (([one], signed), ([two], lead), ([one, two], f"{lead}; of one score: with its sign")):
        groups = [Group(f"loss {place}", f"loss {place}", [replica]) for place, replica in enumerate(replicas)]
        values = [Values("", "loss 0", [0.5])]
        figure = draw_comparison("a sweep", groups, values, metric="val/accuracy", by="")
        assert figure.axes[3].get_xlabel().replace("\n", " ") == words
