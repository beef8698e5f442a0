"""Checks of the rules by which a job prepares the columns of its dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core.names import listed, suggest
from core.tables.treatments import NumberTreatment
from workers.data.dataset import DatasetError, open_features
from workers.job.checks.problems import FieldProblem
from workers.job.preparation import are_prepared, match, treatments_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from core.tables.column import Column
    from core.tables.treatments import Treatment
    from workers.data.dataset import DatasetInfo
    from workers.job.once import Once
    from workers.job.preparation import PrepareRule
    from workers.job.spec import JobSpec

CHUNK = 2**20  # numbers that are looked at together

OF_NUMBERS, OF_CATEGORIES = ("indicator", "clip", "log", "scale"), ("encode",)
WAYS = ("mean", "median", "most_frequent")


def check_preparation(
    spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem], once: Once
) -> tuple[Treatment, ...] | None:
    """Check that the rules fit the columns of the dataset; return what they mean, None if they do not fit."""
    data, columns = spec.data, dataset.columns
    if not are_prepared(data, columns):
        return ()
    if not columns:
        problems.append(
            FieldProblem(
                "data.prepare",
                f"names columns, but the features of dataset {data.dataset!r} have no names: must be left out",
            )
        )
        return None
    rules = data.model_dump_json(include={"prepare", "standardize"})
    found = once(dataset, ("rules", rules), lambda: list(_misfits(data.prepare, columns)))
    if found:
        problems.extend(found)
        return None
    treatments = once(dataset, ("treatments", rules), lambda: treatments_of(data, columns))
    _check_logarithms(spec, dataset, treatments, problems, once)
    _check_alone(spec, dataset, treatments, problems)
    return treatments


def _misfits(rules: Sequence[PrepareRule], columns: Sequence[Column]) -> Iterator[FieldProblem]:
    """Yield what is wrong with rules on these columns."""
    matches = match(rules, columns)
    names = [column.name for column in columns]
    for number, place in matches.unmatched:
        pattern = rules[number].columns[place]
        yield FieldProblem(
            f"data.prepare.{number}.columns.{place}",
            f'no column matches "{pattern}"; the columns are {listed(names)}{suggest(pattern, names[:1000])}',
        )
    of_rule: dict[int, list[Column]] = {}
    for column, chosen in zip(columns, matches.rules, strict=True):
        if chosen is not None:
            of_rule.setdefault(chosen, []).append(column)
    without = {number for number, _ in matches.unmatched}
    for number, rule in enumerate(rules):
        field = f"data.prepare.{number}"
        if number not in of_rule and number not in without:
            yield FieldProblem(
                f"{field}.columns",
                "the rule is never used: every column that it matches has an earlier rule. Put it before that rule, or "
                "leave it out",
            )
        for step, message in _misfits_of_rule(rule, of_rule.get(number, [])):
            yield FieldProblem(f"{field}.{step}", message)


def _misfits_of_rule(rule: PrepareRule, columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Yield the steps of a rule that do not fit one of its columns, and why."""
    numbers = next((column for column in columns if column.kind == "number"), None)
    categories = next((column for column in columns if column.kind == "category"), None)
    if categories:
        for step in OF_NUMBERS:
            if getattr(rule, step) is not None:
                message = f"is for numbers, but the rule has column {categories.name!r}, which has categories"
                yield step, f"{message}: must be left out, or in a rule for other columns"
    if numbers:
        for step in OF_CATEGORIES:
            if getattr(rule, step) is not None:
                message = f"is for categories, but the rule has column {numbers.name!r}, which has numbers"
                yield step, f"{message}: must be left out, or the dataset registered with its values as categories"
    if numbers and isinstance(rule.impute, str) and rule.impute not in WAYS:
        yield "impute", f"is {rule.impute!r}, but column {numbers.name!r} has numbers: must be {_ways()} or a number"
    for column in columns if rule.impute is not None else ():
        if column.kind == "category" and (misfit := _no_category(rule.impute, column)) is not None:
            yield "impute", misfit
            return


def _no_category(impute: Any, column: Column) -> str | None:
    """Why a column of categories cannot be imputed like this; None if it can."""
    if impute == "most_frequent" and column.categories:
        return None
    if isinstance(impute, str) and impute in column.categories:
        return None
    names = [f'"{category}"' for category in column.categories]
    return (
        f'is {impute!r}, but column {column.name!r} has categories: must be "most_frequent" or one of '
        f"{listed(names) or '(none)'}"
    )


def _ways() -> str:
    return ", ".join(f'"{way}"' for way in WAYS)


def _check_logarithms(
    spec: JobSpec,
    dataset: DatasetInfo,
    treatments: Sequence[Treatment],
    problems: list[FieldProblem],
    once: Once,
) -> None:
    """Check that no logarithm is taken of a number that has none."""
    if not any(rule.log for rule in spec.data.prepare):
        return
    start = 0
    for treatment, rule in zip(treatments, match(spec.data.prepare, dataset.columns).rules, strict=True):
        columns = range(start, start + treatment.column.width)
        start = columns.stop
        if not isinstance(treatment, NumberTreatment) or not treatment.log or (treatment.clip or (-1,))[0] > -1:
            continue
        try:
            found = _without_logarithm(dataset, treatment, columns, once)
        except DatasetError as error:
            problems.append(FieldProblem("data.dataset", str(error)))
            return
        if found is not None:
            problems.append(
                FieldProblem(
                    f"data.prepare.{rule}.log",
                    f'takes log(1 + x), but {found}: must be above -1. "clip" with a lower limit above -1 comes before '
                    "the logarithm",
                )
            )


def _without_logarithm(dataset: DatasetInfo, treatment: NumberTreatment, columns: range, once: Once) -> str | None:
    """The first number among some columns that is not above -1, in words."""
    if not isinstance(treatment.impute, str) and treatment.impute <= -1:
        return f"`impute` is {treatment.impute:g}"
    found = once(dataset, ("not above -1", columns), lambda: _first_not_above(-1, dataset, columns))
    if found is None:
        return None
    row, value = found
    return f"column {treatment.column.name!r} is {value:g} in row {row + 1}"


def _first_not_above(limit: float, dataset: DatasetInfo, columns: range) -> tuple[int, float] | None:
    """Row and value of the first number, among some columns, that is not above a limit."""
    features: NDArray[Any] = open_features(dataset)
    count = max(1, CHUNK // len(columns))
    for start in range(0, len(features), count):
        values = features[start : start + count, columns.start : columns.stop]
        places = np.argwhere(values <= limit)
        if len(places):
            row, column = places[0].tolist()
            return start + row, float(values[row, column])
    return None


def _check_alone(
    spec: JobSpec, dataset: DatasetInfo, treatments: Sequence[Treatment], problems: list[FieldProblem]
) -> None:
    """Check that nothing else changes rows that are prepared."""
    why = "data.prepare is given"
    for column in (treatment.column for treatment in treatments):
        if column.kind == "category" or column.missing:
            why = f"column {column.name!r} has {'categories' if column.kind == 'category' else 'missing values'}"
            break
    if spec.data.scale is not None:
        message = f"scales numbers without missing values, but {why}: must be left out; data.prepare scales columns"
        problems.append(FieldProblem("data.scale", message))
    if spec.data.augmentation and dataset.shape:  # rows that are no images are reported in any case
        problems.append(FieldProblem("data.augmentation", f"changes images, but {why}: must be left out"))
