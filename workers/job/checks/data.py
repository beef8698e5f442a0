"""Checks of what a job does with the rows of its dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.names import counted
from workers.job.checks.problems import FieldProblem
from workers.job.data import augmentations_of

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo
    from workers.job.spec import JobSpec


def check_scale(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem]) -> None:
    """Check that a list has one number for each channel or each feature."""
    if spec.data.scale is None:
        return
    channels = {dataset.shape[-1]: "channels"} if dataset.shape else {}
    lengths = {dataset.features: "features", **channels}
    for field in ("subtract", "divide"):
        numbers = getattr(spec.data.scale, field)
        if isinstance(numbers, list) and len(numbers) not in lengths:
            expected = " or ".join(f"{length} ({name})" for length, name in lengths.items())
            problems.append(
                FieldProblem(
                    f"data.scale.{field}", f"has {counted(len(numbers), 'number')}: must be one number, or {expected}"
                )
            )


def check_augmentation(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem]) -> None:
    """Check that there are images to change, and that no change reaches beyond them."""
    if spec.data.augmentation and not dataset.shape:
        problems.append(
            FieldProblem(
                "data.augmentation",
                f"changes images, but the rows of dataset {spec.data.dataset!r} have no height and width: must be "
                "left out, or the dataset registered with the shape of its images",
            )
        )
        return
    augmentations = augmentations_of(spec, dataset.shape)
    if augmentations is None:
        return
    height, width, _ = augmentations.shape
    for position, change in enumerate(augmentations.changes):
        if change.margin > min(height, width):
            problems.append(
                FieldProblem(
                    f"data.augmentation.{position}",
                    f"reaches {change.margin} pixels beyond images of {height} x {width}: must be at most "
                    f"{min(height, width)}",
                )
            )


def check_split(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem]) -> bool:
    """Check the values of a split by a column; return whether the dataset has all of them."""
    if spec.data.split is None:
        return True
    if not dataset.splits:
        problems.append(
            FieldProblem(
                "data.split",
                f"names values of a split column, but dataset {spec.data.dataset!r} has none: must be left out, or the "
                "dataset registered with its split_column",
            )
        )
        return False
    unknown = []
    for part, values in (("train", spec.data.split.train), ("validation", spec.data.split.validation)):
        index = next((index for index, value in enumerate(values) if value not in dataset.splits), None)
        if index is not None:
            unknown.append(
                FieldProblem(
                    f"data.split.{part}.{index}",
                    f"is {values[index]!r}, but the values of the split column of dataset {spec.data.dataset!r} are "
                    f"{', '.join(map(repr, dataset.splits))}: must be one of them",
                )
            )
    problems.extend(unknown)
    return not unknown


def check_validation(spec: JobSpec, dataset: DatasetInfo, rows: tuple[int, int], problems: list[FieldProblem]) -> None:
    """Check the numbers of training and validation rows, and whatever needs validation rows."""
    (train, validation), share = rows, spec.data.validation
    if train == 0:
        problems.append(
            FieldProblem(
                "data.validation",
                f"{share:g} of {dataset.rows} rows leaves none for training: at most {dataset.rows - 1} can be "
                "validation rows",
            )
        )
    elif share > 0 and validation == 0:
        problems.append(
            FieldProblem(
                "data.validation",
                f"{share:g} of {dataset.rows} rows is less than one row: use 0, or at least {1 / dataset.rows:g}",
            )
        )
    elif validation == 0:
        source = validation_field(spec)
        stopping, best = spec.training.early_stopping, spec.checkpoints.best
        needs = []
        if stopping is not None:
            needs.append(("training.early_stopping", f"compares {stopping.metric}"))
        # A resolved spec always names the default, and can be submitted again.
        if best != type(spec.checkpoints).model_fields["best"].default:
            needs.append(("checkpoints.best", f"compares {best}"))
        if spec.data.stratify:
            needs.append(("data.stratify", "takes a share of each class"))
        problems.extend(
            FieldProblem(
                field, f"{use}, but there are no validation rows: must be left out, or {source} must leave rows"
            )
            for field, use in needs
        )
    elif spec.data.stratify and min(rows) < len(dataset.classes):
        count, kind = min((train, "training"), (validation, "validation"))
        problems.append(
            FieldProblem(
                "data.stratify",
                f"keeps a share of each class, but {count} {kind} rows are fewer than {len(dataset.classes)} classes: "
                "must be left out, or data.validation changed",
            )
        )


def validation_field(spec: JobSpec) -> str:
    """Dotted path of the field that selects the validation rows."""
    return "data.validation" if spec.data.split is None else "data.split.validation"
