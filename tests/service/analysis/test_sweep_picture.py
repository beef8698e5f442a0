"""The picture of a sweep: the jobs that it shows and their labels."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from service.analysis.pictures import Subject
from service.analysis.style import png
from service.analysis.sweep_picture import Member, draw_sweep
from tests.workers.fixtures.helpers import assignment, blobs, completed, job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Member]:
    """A function that trains a job for one epoch and returns it as a member with the given accuracy."""
    directory: Path = tmp_path_factory.mktemp("sweep")
    dataset, made = blobs(directory), iter(range(100))

    def train(accuracy: float, **overrides: Any) -> Member:
        spec = job(**{"training.epochs": 1} | overrides)
        given = assignment(spec, dataset, directory / str(next(made)))
        completed(given)
        return Member(
            Subject(given.job, "a job", given.directory, given.spec, dataset, dataset.classes), overrides, accuracy
        )

    return train


def labels(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for text in figure.legends[0].get_texts()]


def settings(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [label.get_text() for label in figure.axes[5].get_yticklabels()]


def test_the_best_settings_of_each_loss_are_chosen_by_their_mean_over_the_seeds(trained: Callable[..., Member]) -> None:
    members = [
        trained(accuracy, **{"loss.type": loss, "optimizer.lr": lr, "training.seed": seed})
        for loss, lr, seed, accuracy in (
            ("hinge", 0.01, 0, 0.99),  # one lucky seed
            ("hinge", 0.01, 1, 0.80),
            ("hinge", 0.02, 0, 0.91),
            ("hinge", 0.02, 1, 0.92),
            ("softmax", 0.01, 0, 0.95),
            ("softmax", 0.02, 0, 0.94),
        )
    ]
    figure = draw_sweep("rates", "val/accuracy", members)
    assert labels(figure) == ["hinge, 0.02 (n = 2)", "softmax, 0.01 (n = 1)"]
    assert settings(figure) == ["0.01", "0.02"]
    assert figure is not None
    hinge, softmax = (container.lines[0].get_xdata() for container in figure.axes[5].containers)
    assert hinge == pytest.approx([0.895, 0.915])
    assert softmax == pytest.approx([0.95, 0.94])


def test_losses_with_different_options_are_separate(trained: Callable[..., Member]) -> None:
    members = [
        trained(0.9, **{"loss": {"type": "hinge"}, "optimizer.lr": 0.05, "regularization.l2": 0.5}),
        trained(0.8, **{"loss": {"type": "hinge", "squared": True}, "optimizer.lr": 0.05, "regularization.l2": 0.5}),
    ]
    expected = ["hinge, lr 0.05, l2 0.5 (n = 1)", "hinge squared True, lr 0.05, l2 0.5 (n = 1)"]
    assert labels(draw_sweep("forms", "val/accuracy", members)) == expected


def test_a_sweep_over_weights_of_the_loss_has_short_words_and_names_each(trained: Callable[..., Member]) -> None:
    weights = [[0.5123456789012345, 1.9876543210987654, 1.25], [1.1234567890123456, 0.8765432109876543, 1.0]]
    members = [
        trained(0.9, **{"loss": {"type": "softmax", "class_weights": each}, "training.seed": seed})
        for each in weights
        for seed in (0, 1)
    ]
    figure = draw_sweep("weights", "val/accuracy", members)
    first, second = "softmax class_weights 0.512346 1.98765 1.25", "softmax class_weights 1.12346 0.876543 1"
    assert labels(figure) == [f"{first} (n = 2)", f"{second} (n = 2)"]
    cut = [f"{words[:39]}…" if len(words) > 40 else words for words in (first, second)]
    assert [" ".join(label.split()) for label in settings(figure)] == cut
    assert figure is not None
    assert figure.axes[5].get_ylabel() == "loss"
    png(figure)
    box = figure.legends[0].get_window_extent()
    assert (box.x0 >= 0, box.x1 <= figure.bbox.x1) == (True, True)


def test_a_long_legend_is_shortened_instead_of_cut_off(trained: Callable[..., Member]) -> None:
    loss = {"type": "softmax", "class_weights": [0.5123456789, 1.9876543210, 1.2512345678], "label_smoothing": 1 / 81}
    one = trained(0.9, **{"loss": loss, "optimizer.lr": 1 / 77, "regularization.l2": 1 / 7777})
    figure = draw_sweep("weights", "val/accuracy", [one])
    assert figure is not None
    png(figure)
    box = figure.legends[0].get_window_extent()
    assert (box.x0 >= 0, box.x1 <= figure.bbox.x1) == (True, True)
    (label,) = labels(figure)
    assert label.startswith("softmax class_weights 0.512346 1.98765 1.25123 label_smoothing 0.0123457, lr 0.012987")
    assert label.endswith("… (n = 1)")


def test_of_many_settings_the_best_are_shown_in_the_order_of_the_sweep(trained: Callable[..., Member]) -> None:
    one = trained(0.9)
    members = [
        replace(one, overrides={"optimizer.lr": place}, value=0.9 - abs(8.1 - place) / 100) for place in range(14)
    ]
    assert settings(draw_sweep("many", "val/accuracy", members)) == [str(place) for place in range(4, 14)]


def looks(figure: Figure, panel: int) -> list[tuple[Any, Any]]:
    """Colour and marker of each group in a panel's error bars."""
    lines = [container.lines[0] for container in figure.axes[panel].containers]
    return [(line.get_color(), line.get_marker()) for line in lines]


def test_each_form_of_a_loss_has_its_own_colour_and_marker(trained: Callable[..., Member]) -> None:
    losses: list[dict[str, Any]] = [
        {"type": "softmax", "label_smoothing": smoothing / 20, "class_weights": [1.0, weight, 1.0]}
        for smoothing in range(4)
        for weight in (2.0, 3.0, 4.0)
    ]
    members = [trained(0.9 - place / 100, loss=loss) for place, loss in enumerate([{"type": "hinge"}, *losses])]
    figure = draw_sweep("forms", "val/accuracy", members)
    assert figure is not None
    # The ten best are shown, in every panel.
    assert len(labels(figure)) == len(settings(figure)) == 10
    assert not any("label_smoothing 0.15" in label for label in labels(figure))
    assert "the best 10 of 13" in figure.get_suptitle()
    colors = [line.get_color() for line in figure.axes[0].lines]
    assert len(set(colors)) == 10
    assert len({marker for _, marker in looks(figure, 5)}) == 10
    assert [color for color, _ in looks(figure, 5)] == colors
    assert [line.get_color() for line in figure.legends[0].get_lines()] == colors


def test_a_loss_keeps_its_colour_where_its_rival_has_only_settings_that_are_not_shown(
    trained: Callable[..., Member],
) -> None:
    one, other = trained(0.9), trained(0.9, loss={"type": "softmax", "label_smoothing": 0.1})
    # The first loss has only the worst setting, so that it has no value among those that are shown.
    members = [replace(one, overrides={"optimizer.lr": 99}, value=0.1)]
    members += [replace(other, overrides={"optimizer.lr": place}, value=0.9 - place / 100) for place in range(10)]
    figure = draw_sweep("many", "val/accuracy", members)
    assert figure is not None
    assert [color for color, _ in looks(figure, 5)] == [figure.axes[0].lines[1].get_color()]


def test_no_marker_is_cut_off_by_the_frame(trained: Callable[..., Member]) -> None:
    losses = ({"type": "softmax", "label_smoothing": place / 10} for place in range(7))
    figure = draw_sweep("forms", "val/accuracy", [trained(0.9, loss=loss, **{"optimizer.lr": 0.1}) for loss in losses])
    assert figure is not None
    axes = figure.axes[5]
    places = [float(place) for container in axes.containers for place in container.lines[0].get_ydata()]
    assert len(set(places)) == 7
    assert max(abs(place) for place in places) < 0.4
    assert axes.get_ylim() == (0.5, -0.5)
    alone = draw_sweep("rates", "val/accuracy", [trained(0.9), trained(0.8, loss={"type": "softmax"})])
    assert alone is not None
    assert [list(container.lines[0].get_ydata()) for container in alone.axes[5].containers] == [[0], [1]]


def test_a_member_that_does_not_set_a_field_is_labelled_with_the_value_of_its_spec(
    trained: Callable[..., Member],
) -> None:
    members = [
        trained(0.9, loss={"type": "hinge"}),
        trained(0.8, loss={"type": "softmax"}, **{"optimizer.lr": 0.02}),
        trained(0.7, loss={"type": "softmax"}, **{"optimizer.lr": 0.02, "training.batch_size": 20}),
    ]
    rate, rows = (
        members[0].subject.spec[part][name] for part, name in (("optimizer", "lr"), ("training", "batch_size"))
    )
    figure = draw_sweep("models", "val/accuracy", members)
    assert labels(figure) == [
        f"hinge, lr {rate:.6g}, batch_size {rows} (n = 1)",
        f"softmax, lr 0.02, batch_size {rows} (n = 1)",
    ]
    ticks = [" ".join(label.split()) for label in settings(figure)]
    assert ticks == [f"lr {rate:.6g}, batch_size {rows}", f"lr 0.02, batch_size {rows}", "lr 0.02, batch_size 20"]
    assert figure is not None
    assert figure.axes[5].get_ylabel() == "optimizer.lr, training.batch_size"


def test_a_member_without_a_model_of_its_own_is_labelled_with_its_layers(trained: Callable[..., Member]) -> None:
    members = [trained(0.9), trained(0.8, **{"model.layers": [{"type": "linear", "units": 3}]})]
    figure = draw_sweep("models", "val/accuracy", members)
    assert settings(figure) == ["layers of the base", "linear 3"]


def test_the_title_says_what_was_chosen(trained: Callable[..., Member]) -> None:
    plain = trained(0.9, loss={"type": "hinge"})
    squared = trained(0.8, loss={"type": "hinge", "squared": True})
    fast = trained(0.7, loss={"type": "hinge"}, **{"optimizer.lr": 0.5})
    softmax = trained(0.7, loss={"type": "softmax"})
    for members, words in (
        ([plain, softmax], "losses: the best settings of each loss by val/accuracy"),
        ([plain, squared], "losses: the best settings of each loss with its fields by val/accuracy"),
        ([plain, fast, softmax], "losses: the best settings of each loss by val/accuracy"),
        ([plain, fast, squared], "losses: the best settings of each loss with its fields by val/accuracy"),
    ):
        figure = draw_sweep("losses", "val/accuracy", members)
        assert figure is not None
        assert figure.get_suptitle() == f"{words}, kept parameters"


def test_without_a_succeeded_job_there_is_no_picture() -> None:
    assert draw_sweep("none", "val/accuracy", []) is None


def test_labels_of_many_long_settings_do_not_overlap_and_differ(trained: Callable[..., Member]) -> None:
    one = trained(0.9)
    losses: list[dict[str, Any]] = [
        {"type": "softmax", "class_weights": [1.0, 2.0, 3.0], "label_smoothing": place / 100} for place in range(1, 10)
    ]
    figure = draw_sweep("many", "val/accuracy", [one, *(trained(0.9, loss=loss) for loss in losses)])
    assert figure is not None
    png(figure)
    assert len(set(settings(figure))) == 10
    boxes = [label.get_window_extent() for label in figure.axes[5].get_yticklabels()]
    boxes.sort(key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))
