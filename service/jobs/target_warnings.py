"""Warnings about the targets of a regression: on which scale they are, and how precisely they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.datasets.preparation.precision import coarse, in_words
from service.datasets.preparation.statistics import RunningStatistics
from workers.data.dataset import DatasetError, open_truth
from workers.data.scaling import far_from_standard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workers.data.dataset import DatasetInfo
    from workers.job.resolve import ResolvedJob


def target_warnings(job: ResolvedJob, dataset: DatasetInfo, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the field and the message of each warning about a job's targets, which have these names."""
    if job.metrics.task != "regression":
        return
    running = RunningStatistics(dataset.targets)
    try:
        running.update(open_truth(dataset))
    except DatasetError as error:
        yield "data.dataset", str(error)
        return
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


def _others(chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    count = int(chosen.sum()) - 1
    return f" (and {count} more like it)" if count else ""
