"""All figures of a job that has ended, as files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core import to_svg
from service.analysis.activation_maps import draw_activation_maps
from service.analysis.curves import draw_learning_curves
from service.analysis.first_layer import draw_first_layer
from service.analysis.predicted.certainty import draw_margins_and_confidence
from service.analysis.predicted.confusion import draw_confusion_matrix
from service.analysis.predicted.per_label import draw_per_label
from service.analysis.predicted.rankings import draw_rankings
from service.analysis.predicted.values import draw_values
from service.analysis.predictions import Predictions, predict
from service.analysis.style import png
from service.analysis.trained_model import load_trained_model
from workers.job.computation import Computation
from workers.job.data import split_sizes
from workers.job.spec import JobSpec
from workers.record.checkpoint import latest
from workers.record.history_files import read_history

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from core import Graph
    from workers.data.dataset import DatasetInfo


@dataclass(frozen=True)
class Subject:
    """A job that has ended: its id, name, directory and resolved spec, and the version of the dataset that it used.

    `names` are those of the dataset's classes or targets.
    """

    job: str
    name: str
    directory: Path
    spec: Mapping[str, Any]
    dataset: DatasetInfo
    names: Sequence[str]


@dataclass(frozen=True)
class Pictures:
    """Files by name, and error messages by the name of files that could not be drawn."""

    files: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, draw: Callable[[], bytes | Figure | None]) -> None:
        """Add a figure, unless `draw` returns None. An exception is recorded as a failure."""
        try:
            drawn = draw()
            if drawn is not None:
                self.files[name] = drawn if isinstance(drawn, bytes) else png(drawn)
        except Exception as error:  # noqa: BLE001 - files may be damaged in any way
            self.failures[name] = f"{type(error).__name__}: {error}"


def draw_pictures(subject: Subject) -> Pictures:
    """Draw all figures of a job; without a checkpoint, only the graph of the model and the learning curves."""
    spec, name = subject.spec, subject.name
    pictures = Pictures()
    pictures.add("graph.svg", lambda: _graph(subject))
    pictures.add("graph_expanded.svg", lambda: _expanded_graph(subject))
    trained = found = None
    if latest(subject.directory) is not None:
        try:
            trained = load_trained_model(subject.directory, subject.job, spec, subject.dataset)
            found = predict(trained, spec, subject.dataset, subject.names)
        except Exception as error:  # noqa: BLE001 - files may be damaged in any way
            pictures.failures["predictions"] = f"{type(error).__name__}: {error}"
    pictures.add("learning_curves.png", lambda: _curves(subject, None if trained is None else trained.step))
    if trained is not None:
        # One score of two classes is that of the second.
        names, shape = subject.names[-trained.outputs :], subject.dataset.shape
        if trained.preparer is None:  # prepared columns are no pixels
            pictures.add("first_layer.png", lambda: draw_first_layer(name, trained.model, names, shape))
    if trained is not None and found is not None:
        if trained.preparer is None:
            pictures.add("activation_maps.png", lambda: draw_activation_maps(name, trained, subject.dataset, found))
        _add_predictions(pictures, name, spec, found)
    return pictures


def _add_predictions(pictures: Pictures, name: str, spec: Mapping[str, Any], found: Predictions) -> None:
    """Add the figures of the predictions that belong to the job's task."""
    if found.task == "regression":
        pictures.add("predictions.png", lambda: draw_values(name, found))
        return
    if found.task == "multilabel":
        pictures.add("labels.png", lambda: draw_per_label(name, found))
    else:
        pictures.add("confusion_matrix.png", lambda: draw_confusion_matrix(name, found))
    if found.task == "classification":
        pictures.add("margins_and_confidence.png", lambda: draw_margins_and_confidence(name, spec, found))
    if found.task == "multilabel" or len(found.names) == 2:
        pictures.add("roc_and_precision_recall.png", lambda: draw_rankings(name, found))


def _graph(subject: Subject) -> bytes:
    return to_svg(_graph_of(subject)).encode()


def _expanded_graph(subject: Subject) -> bytes | None:
    """The graph with the layers of its blocks; None if it has no blocks."""
    graph = _graph_of(subject)
    return to_svg(graph, expanded=True).encode() if graph.groups else None


def _graph_of(subject: Subject) -> Graph:
    job = JobSpec.model_validate(subject.spec)
    train_rows, _ = split_sizes(job, subject.dataset)
    return Computation.of(job, subject.dataset, train_rows).graph


def _curves(subject: Subject, kept: int | None) -> Figure | None:
    history = read_history(subject.directory)
    if not history.num_rows:
        return None
    return draw_learning_curves(subject.name, subject.spec, subject.dataset, history, kept)
