"""What a job trains its model for: the loss and the dataset decide it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from core import registered
from core.names import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core import Loss, Task
    from workers.data.dataset import DatasetInfo


LABEL_HINT = "a column of classes is its `label` (--label)"
TARGETS_HINT = "columns of numbers to predict are its `targets` (--target)"


class TaskError(ValueError):
    """A loss that does not fit a dataset."""


def tasks_of(loss: Loss, dataset: DatasetInfo) -> dict[Task, int]:
    """The tasks for which a loss can train a model on a dataset, with the number of outputs that the model must have.

    Empty if there is none.
    """
    return {task: outputs for task, outputs in _outputs(dataset).items() if task in loss.tasks}


def misfit(loss: Loss, dataset: DatasetInfo, *, zeros_and_ones: bool) -> str:
    """What is wrong with a loss without a task: what the dataset has, and which losses fit it.

    `zeros_and_ones` is whether all targets of a dataset without classes are 0 or 1, as several labels must be.
    """
    tasks = set(_outputs(dataset)) - (set() if zeros_and_ones else {"multilabel"})
    losses = cast("Mapping[str, type[Loss]]", registered("loss"))
    names = [name for name, cls in losses.items() if not cls.tasks.isdisjoint(tasks)]
    other = TARGETS_HINT if dataset.classes else LABEL_HINT
    return (
        f"{loss.type} is a loss for {_listed(sorted(loss.tasks))}, but the dataset has {content(dataset)}: must be one "
        f"of {', '.join(names)}, or the dataset registered otherwise: {other}"
    )


def task_of(loss: Loss, dataset: DatasetInfo, outputs: int) -> Task:
    """The task of a job whose model has this many outputs. Raises `TaskError` if there is none."""
    for task, needed in tasks_of(loss, dataset).items():
        if needed == outputs:
            return task
    raise TaskError(f"{loss.type} does not train a model with {counted(outputs, 'output')} on {content(dataset)}")


def _outputs(dataset: DatasetInfo) -> dict[Task, int]:
    classes = len(dataset.classes)
    if not classes:
        return {"regression": dataset.targets, "multilabel": dataset.targets}
    return {"classification": classes, **({"binary": 1} if classes == 2 else {})}


def content(dataset: DatasetInfo) -> str:
    """What the rows of a dataset have besides features, in words."""
    if dataset.classes:
        return counted(len(dataset.classes), "class", "classes")
    return f"{counted(dataset.targets, 'target column')} and no classes"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 2 else names)
