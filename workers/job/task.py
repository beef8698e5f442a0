"""What a job trains its model for: the loss and the dataset decide it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from core import registered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core import Loss, Task
    from workers.data.dataset import DatasetInfo


class TaskError(ValueError):
    """A loss that does not fit a dataset."""


def tasks_of(loss: Loss, dataset: DatasetInfo) -> dict[Task, int]:
    """The tasks for which a loss can train a model on a dataset, with the number of outputs that the model must have.

    Raises `TaskError`, which says what the dataset has and which losses fit it.
    """
    fitting = {task: outputs for task, outputs in _outputs(dataset).items() if task in loss.tasks}
    if not fitting:
        losses = cast("Mapping[str, type[Loss]]", registered("loss"))
        names = [name for name, cls in losses.items() if not cls.tasks.isdisjoint(_outputs(dataset))]
        raise TaskError(
            f"{loss.type} is a loss for {_listed(sorted(loss.tasks))}, but the dataset has {content(dataset)}: must "
            f"be one of {', '.join(names)}"
        )
    return fitting


def task_of(loss: Loss, dataset: DatasetInfo, outputs: int) -> Task:
    """The task of a job whose model has this many outputs. Raises `TaskError` if there is none."""
    for task, needed in tasks_of(loss, dataset).items():
        if needed == outputs:
            return task
    raise TaskError(f"{loss.type} does not train a model with {outputs} outputs on {content(dataset)}")


def _outputs(dataset: DatasetInfo) -> dict[Task, int]:
    classes = len(dataset.classes)
    if not classes:
        return {"regression": dataset.targets, "multilabel": dataset.targets}
    return {"classification": classes, **({"binary": 1} if classes == 2 else {})}


def content(dataset: DatasetInfo) -> str:
    """What the rows of a dataset have besides features, in words."""
    if dataset.classes:
        return f"{len(dataset.classes)} classes"
    return f"{dataset.targets} target {'column' if dataset.targets == 1 else 'columns'} and no classes"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 2 else names)
