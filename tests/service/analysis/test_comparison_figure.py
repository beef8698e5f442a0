"""The content of the comparison picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from service.analysis.comparison_figure import COLORS, Group, Values, draw_comparison, in_units, written
from service.analysis.measures import calibration, margins
from service.analysis.replica import Replica
from service.analysis.style import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from core import Task

RANDOM = np.random.default_rng(3)


def replica(epochs: int, *, level: float = 0.9) -> Replica:
    labels = RANDOM.integers(0, 3, 40)
    scores = RANDOM.normal(size=(40, 3)).astype(np.float32)
    scores[np.arange(40), labels] += 2
    names = ("val/accuracy", "train/active_fraction", "weights/norm")
    return Replica({name: RANDOM.uniform(level, 1, epochs) for name in names}, scores, labels)


@pytest.fixture
def groups() -> list[Group]:
    return [
        Group("hinge-linear", "hinge", [replica(6), replica(5), replica(6)]),
        Group("softmax-linear", "softmax", [replica(6), replica(6)]),
        Group("hinge $hidden", "hinge", [replica(6)]),
    ]


VALUES = [
    Values("0%", "hinge", [0.9, 0.94]),
    Values("0%", "softmax", [0.95, 0.97]),
    Values("10%", "hinge", [0.8]),
    Values("10%", "softmax", [0.9, 0.92]),
]


def test_curves_are_means_and_deviations_over_the_seeds(groups: list[Group]) -> None:
    figure = draw_comparison("title", groups, VALUES, metric="val/accuracy", by="mislabelled rows")
    axes = figure.axes[0]
    lines = {str(line.get_label()): line for line in axes.lines}
    # The mean ends at the epoch at which the first job stopped.
    curves = np.stack([each.course["val/accuracy"][:5] for each in groups[0].replicas])
    line = lines["hinge-linear (n = 3)"]
    assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3, 4, 5]
    assert line.get_ydata() == pytest.approx(curves.mean(axis=0))
    edge = axes.collections[0].get_paths()[0].vertices
    assert edge[:, 1].max() == pytest.approx((curves.mean(axis=0) + curves.std(axis=0, ddof=1)).max())
    single = lines[r"hinge \$hidden (n = 1)"]
    assert single.get_ydata() == pytest.approx(groups[2].replicas[0].course["val/accuracy"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)


def test_losses_differ_in_colour_and_their_groups_in_line_style(groups: list[Group]) -> None:
    lines = draw_comparison("title", groups, VALUES, metric="val/accuracy", by="mislabelled rows").axes[0].lines
    assert [line.get_color() for line in lines] == [COLORS["hinge"], COLORS["softmax"], COLORS["hinge"]]
    assert [line.get_linestyle() for line in lines] == ["-", "-", "--"]


def test_margins_and_calibration_use_the_rows_of_all_seeds(groups: list[Group]) -> None:
    figure = draw_comparison("title", groups, VALUES, metric="val/accuracy", by="mislabelled rows")
    found = np.concatenate([margins(each.scores, each.truth) for each in groups[0].replicas])
    medians = [text.get_text() for text in figure.axes[3].get_legend().get_texts()]
    assert medians[0] == f"median {np.median(found):.2f}"
    stairs = figure.axes[3].patches[0].get_data()
    inside = (found >= stairs.edges[0]) & (found <= stairs.edges[-1])
    assert stairs.values.sum() == pytest.approx(inside.mean())

    errors = np.array([calibration(each.scores, each.truth).error for each in groups[1].replicas])
    texts = [text.get_text() for text in figure.axes[4].get_legend().get_texts()]
    assert texts[1] == f"error {errors.mean():.3f} ± {errors.std(ddof=1):.3f}"
    assert "±" not in texts[2]


def test_accuracies_by_setting(groups: list[Group]) -> None:
    axes = draw_comparison("title", groups, VALUES, metric="val/accuracy", by="mislabelled rows").axes[5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0%", "10%"]
    hinge, softmax = (container.lines[0] for container in axes.containers)
    assert hinge.get_xdata() == pytest.approx([0.92, 0.8])
    assert softmax.get_xdata() == pytest.approx([0.96, 0.91])
    bars = [bar[:, 0].tolist() for bar in axes.containers[1].lines[2][0].get_segments()]
    spread = 0.02 / 2**0.5
    assert bars == [pytest.approx([mean - spread, mean + spread]) for mean in (0.96, 0.91)]


def test_jobs_without_validation_rows_are_drawn() -> None:
    one = replica(3)
    one = Replica({**one.course, "val/accuracy": np.full(3, np.nan)}, one.scores, one.truth)
    figure = draw_comparison("title", [Group("one", "softmax", [one])], VALUES, metric="val/accuracy", by="width")
    assert len(figure.axes) == 6


def test_means_are_formatted_with_their_deviation() -> None:
    assert written(np.array([0.5]), 2) == "0.50"
    assert written(np.array([0.5, 0.7]), 3) == "0.600 ± 0.141"
    assert in_units(np.array([0.5])) == "0.5"
    assert in_units(np.array([5e-6, 7e-6])) == "6e-06 ± 1.4e-06"


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("name", ["$\\frac{$ $x_{$", "\ud83d\0\x1b[2J\r\n", " "])
def test_names_do_not_break_the_picture(groups: list[Group], name: str) -> None:
    texts = ["$\\frac{$ $x_{$", "\x1b[2J", "a\r\nb\u2028c", "\0", "\ud83d", "_hidden", "", " ", "a " * 60]
    groups += [Group(f"hinge, {text}", "hinge", [replica(6)]) for text in texts]
    png(draw_comparison(name, groups, [Values(text, "hinge", [0.5]) for text in texts], metric="val/accuracy", by=name))


def replicas_of(task: Task, outputs: int, count: int = 2) -> list[Replica]:
    """Jobs of a task, with the metrics that they record."""
    made = []
    for _ in range(count):
        scores = RANDOM.normal(size=(50, outputs)).astype(np.float32)
        truth: Any = scores + RANDOM.normal(size=scores.shape) * (1, 100)[:outputs]
        names = ["weights/norm", "val/r2", "val/mean_absolute_error"]
        if task != "regression":
            truth = (truth > 0).astype(np.int64)
            names = ["weights/norm", "val/f1", "train/active_fraction"]
        course = {name: RANDOM.uniform(0, 1, 6) for name in names}
        made.append(Replica(course, scores, truth[:, 0] if task == "binary" else truth, task))
    return made


def legend(axes: Axes) -> list[str]:
    drawn = axes.get_legend()
    assert drawn is not None
    return [text.get_text() for text in drawn.get_texts()]


@pytest.mark.parametrize("targets", [1, 2])
def test_regressions_are_compared_by_their_errors(targets: int) -> None:
    group = Group("huber", "huber", replicas_of("regression", targets))
    values = [Values("0.1", "huber", [0.5, 0.7]), Values("0.2", "huber", [-3.0])]
    figure = draw_comparison("title", [group], values, metric="val/r2", by="optimizer.lr")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "validation R²"
    assert titles[1] == "validation mean absolute error"
    assert titles[5] == "validation R² at other settings"
    over = [f"mean over {targets} targets"] * 2
    one = ["R²", "in the targets' own units"]
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == (over if targets > 1 else one)
    courses = np.stack([each.course["val/r2"] for each in group.replicas])
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(courses.mean(axis=0))
    # Several targets can have different units, so that their errors are relative to each target's deviation.
    found = [(each.scores - each.truth) / (each.truth.std(axis=0) if targets > 1 else 1) for each in group.replicas]
    assert legend(figure.axes[3]) == [f"median {np.median(np.concatenate(found)):.3g}"]
    assert ("standard deviations" in figure.axes[3].get_xlabel()) == (targets > 1)
    assert legend(figure.axes[4]) == [f"median {in_units(np.array([np.median(abs(each)) for each in found]))}"]
    assert figure.axes[5].containers[0].lines[0].get_xdata() == pytest.approx([0.6, -3])
    png(figure)


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multilabel", 2)])
def test_labels_are_compared_by_roc_curves(task: Task, outputs: int) -> None:
    group = Group("soft_margin", "soft_margin", replicas_of(task, outputs))
    figure = draw_comparison("title", [group], [Values("", "soft_margin", [0.5])], metric="val/roc_auc", by="")
    areas = np.array([roc_auc_score(each.truth, each.scores) for each in group.replicas])
    assert legend(figure.axes[4]) == [f"AUC {written(areas, 3)}"]
    margins_of_all = np.concatenate(
        [(each.scores * np.where(each.truth.reshape(each.scores.shape) == 1, 1, -1)).ravel() for each in group.replicas]
    )
    assert legend(figure.axes[3])[0] == f"median {np.median(margins_of_all):.2f}"
    # The metric exists at the end of training only.
    assert not len(figure.axes[0].lines[0].get_xdata())
    png(figure)


def test_values_and_labels_have_nothing_in_common_but_the_metric() -> None:
    groups = [
        Group("huber", "huber", replicas_of("regression", 2)),
        Group("sigmoid", "sigmoid_cross_entropy", replicas_of("multilabel", 2)),
    ]
    figure = draw_comparison("title", groups, [Values("", "huber", [0.5])], metric="val/loss", by="")
    assert not figure.axes[3].axison
    assert not figure.axes[4].axison
    png(figure)
