"""Names of what a dataset's rows have besides features: its classes, or its target columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def target_names(columns: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a name for each target, from the description of its columns: "name 1" and so on for each of several."""
    return [
        column["name"] if column["width"] == 1 else f"{column['name']} {index + 1}"
        for column in columns
        for index in range(column["width"])
    ]


def positive_class(classes: Sequence[str]) -> str | None:
    """Return the class of label 1, of which precision, recall, F1, ROC AUC and so on are, if there are two classes."""
    return classes[1] if len(classes) == 2 else None


def named_outputs(dataset: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of a job's classes as "classes", or those of its targets as "targets"."""
    return {"classes" if dataset["classes"] else "targets": [*output_names(dataset)]}


def output_names(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes or targets of a job's snapshot of its dataset."""
    named = dataset["classes"] or dataset.get("target_names")
    return tuple(named or (f"target {index + 1}" for index in range(dataset.get("targets", 0))))
