"""Warnings about what a job predicts: the scale and precision of targets, and labels that few rows have."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from service.datasets.preparation.precision import coarse, in_words
from service.datasets.preparation.statistics import RunningStatistics
from workers.data.dataset import DatasetError, open_truth
from workers.data.scaling import far_from_standard
from workers.job.data import split_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from workers.data.dataset import DatasetInfo
    from workers.job.resolve import ResolvedJob

RARE = 0.1  # share of the training rows of a class, of two
MOST_NAMES = 5  # in a message


def target_warnings(job: ResolvedJob, dataset: DatasetInfo, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the field and the message of each warning about a job's targets or classes, which have these names."""
    try:
        truth = open_truth(dataset)
        train, validation = (truth[rows] for rows in split_rows(job.spec, dataset, truth))
    except DatasetError as error:
        yield "data.dataset", str(error)
        return
    match job.metrics.task:
        case "regression":
            yield from _of_values(job, truth, names)
            if job.spec.data.standardize_targets:
                yield from _of_constants(train, names)
        case "multilabel":
            yield from _of_labels(train, validation, names)
        case _:
            yield from _of_classes(train, names)


def _of_values(job: ResolvedJob, truth: NDArray[Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    running = RunningStatistics(truth.shape[1])
    running.update(truth)
    found = running.summary()
    far = far_from_standard(np.array(found["mean"]), np.array(found["std"]))
    if far.any() and not job.spec.data.standardize_targets:
        first = int(far.argmax())
        yield (
            "data.standardize_targets",
            f"is false, and target {names[first]!r} has the mean {found['mean'][first]:.3g} and the standard deviation "
            f"{found['std'][first]:.3g}{_others(far)}: training may diverge or take very long. With true the model "
            "trains on targets of mean 0 and standard deviation 1, and predicts in their own units",
        )
    if (imprecise := coarse(found)).any():
        first = int(imprecise.argmax())
        yield (
            "data.dataset",
            f"has target {names[first]!r}, whose {in_words(found, first)}{_others(imprecise)}: no prediction can be "
            "more precise. Subtract a constant from the column and register it again",
        )


def _of_constants(train: NDArray[Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    constant = train.min(axis=0) == train.max(axis=0)
    if constant.any():
        first = int(constant.argmax())
        yield (
            "data.standardize_targets",
            f"is true, and target {names[first]!r} is {train[0, first]:g} in every training row{_others(constant)}: it "
            "has no standard deviation to be divided by, and R² of a constant says nothing. Leave the column out of "
            "the targets",
        )


def _of_classes(train: NDArray[Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    counts = np.bincount(train, minlength=len(names))
    if (missing := counts == 0).any():
        yield (
            "data.dataset",
            f"has no training row of class {names[int(missing.argmax())]!r}{_others(missing)}: the model cannot learn "
            "it. data.stratify keeps rows of each class for training",
        )
        return
    rare = int(counts.argmin())
    share = counts[rare] / len(train)
    if len(names) == 2 and share < RARE:
        negative, positive = names
        yield (
            "data.dataset",
            f"class {names[rare]!r} has {counts[rare]:,} of {len(train):,} training rows ({share:.1%}): a model that "
            f"always answers {names[1 - rare]!r} has an accuracy of {1 - share:.3f}. val/balanced_accuracy and "
            "val/average_precision tell it from a useful one: rank jobs by them with --metric, or with `metric` of a "
            f"sweep. {positive!r} is the positive class, of which precision, recall, F1 and average precision are; "
            f"`datasets add` with --class {quote(positive)} --class {quote(negative)} swaps the two",
        )


def _of_labels(train: NDArray[Any], validation: NDArray[Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    cases: list[tuple[Any, str]] = [
        (~train.any(axis=0), "in no training row: the model cannot learn {them}"),
        (train.all(axis=0), "in every training row: the model cannot learn what {they} on"),
        (
            np.logical_and(len(validation), ~validation.any(axis=0)),
            "in no validation row: val/f1 counts {them} as 0, and val/roc_auc and val/average_precision leave {them} "
            "out",
        ),
    ]
    for labels, how in cases:
        found = [repr(name) for name, there in zip(names, labels, strict=True) if there]
        if found:
            more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
            words = {"them": "it", "they": "it depends"} if len(found) == 1 else {"them": "them", "they": "they depend"}
            listed = f"label{'s' * (len(found) > 1)} {', '.join(found[:MOST_NAMES])}{more}"
            yield "data.dataset", f"has {listed} {how.format_map(words)}"


def _others(chosen: NDArray[np.bool_]) -> str:
    count = int(chosen.sum()) - 1
    return f" (and {count} more like it)" if count else ""
