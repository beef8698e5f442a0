"""The picture of a sweep: the jobs that it shows and their labels."""

from __future__ import annotations

from dataclasses import replace
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


def test_without_a_succeeded_job_there_is_no_picture() -> None:
    assert draw_sweep("none", "val/accuracy", []) is None
