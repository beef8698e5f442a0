"""What is wrong with rules of preparation, and what they mean for columns."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from core import build_classifier, entry_from_spec
from core.tables.column import Column
from core.tables.treatments import CategoryTreatment, NumberTreatment
from tests.workers.fixtures.helpers import blobs, images, job
from tests.workers.fixtures.tabular import NAN, Given, categories, numbers, passengers, table_dataset
from workers.job.checks.model import Limits
from workers.job.checks.problems import SpecError
from workers.job.index_columns import changed_indices, layers_with_few_entries
from workers.job.preparation import treatments_of
from workers.job.resolve import resolve
from workers.job.spec import DataSpec, JobSpec

if TYPE_CHECKING:
    from pathlib import Path

    from workers.data.dataset import DatasetInfo

LINEAR = {"model.layers": [{"type": "linear", "units": 2}]}


def problems(dataset: DatasetInfo, *rules: dict[str, Any], **changes: Any) -> dict[str, str]:
    """What is wrong with a job with these rules, by field."""
    given = job(**LINEAR | {"data.dataset": "passengers", "data.prepare": list(rules)} | changes)
    with pytest.raises(SpecError) as caught:
        resolve(JobSpec.model_validate(given), dataset)
    return {problem.field: problem.message for problem in caught.value.problems}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return passengers(tmp_path_factory.mktemp("tables"))


COLUMNS = "the columns are fare, age, sex, port, deck"

WRONG: list[tuple[list[dict[str, Any]], dict[str, str]]] = [
    (
        [{"columns": ["fare*", "ports"]}],
        {"0.columns.1": f"no column matches \"ports\"; {COLUMNS}; did you mean 'port'?"},
    ),
    ([{"columns": ["fare"]}, {"columns": ["fees*"]}], {"1.columns.0": f'no column matches "fees*"; {COLUMNS}'}),
    (
        [{"columns": ["fare", "age"]}, {"columns": ["*e"], "log": True}],
        {
            "1.columns": "the rule is never used: every column that it matches has an earlier rule. Put it before that "
            "rule, or leave it out"
        },
    ),
    *(
        (
            [{"columns": ["age", "port"], step: value}],
            {
                f"0.{step}": "is for numbers, but the rule has column 'port', which has categories: must be left out, "
                "or in a rule for other columns"
            },
        )
        for step, value in {"log": True, "scale": "none", "clip": [0, 1], "indicator": False}.items()
    ),
    (
        [{"columns": ["age"], "encode": "index"}],
        {
            "0.encode": "is for categories, but the rule has column 'age', which has numbers: must be left out, or the "
            "dataset registered with its values as categories"
        },
    ),
    (
        [{"columns": ["age"], "impute": "middle"}],
        {
            "0.impute": 'is \'middle\', but column \'age\' has numbers: must be "mean", "median", "most_frequent" or a '
            "number"
        },
    ),
    *(
        (
            [{"columns": ["port"], "impute": value}],
            {
                "0.impute": f'is {value!r}, but column \'port\' has categories: must be "most_frequent" or one of "C", '
                '"Q", "S", "X"'
            },
        )
        for value in ("mean", "Z", 3.0)
    ),
    (
        [{"columns": ["fare"], "log": True, "impute": -1}],
        {
            "0.log": 'takes log(1 + x), but `impute` is -1: must be above -1. "clip" with a lower limit above -1 comes '
            "before the logarithm"
        },
    ),
]


@pytest.mark.parametrize(("rules", "expected"), WRONG)
def test_rules_that_do_not_fit_the_columns(
    dataset: DatasetInfo, rules: list[dict[str, Any]], expected: dict[str, str]
) -> None:
    assert problems(dataset, *rules) == {f"data.prepare.{field}": message for field, message in expected.items()}


def test_a_logarithm_of_a_number_that_has_none(tmp_path: Path) -> None:
    columns = [numbers("a", [0.5, 2.0, NAN, -0.99]), numbers("b", [1.0, -1.0, 3.0, -7.0])]
    dataset = table_dataset(tmp_path, columns, np.array([0, 1, 0, 1]), classes=("x", "y"))
    rule = {"columns": ["*"], "log": True}
    small = {"training.batch_size": 2, "data.validation": 0.25}
    assert problems(dataset, rule, **small) == {
        "data.prepare.0.log": "takes log(1 + x), but column 'b' is -1 in row 2: must be above -1. \"clip\" with a "
        "lower limit above -1 comes before the logarithm"
    }
    for fitting in ([{"columns": ["a"], "log": True}], [rule | {"clip": [-0.5, 9]}]):
        resolve(JobSpec.model_validate(job(**LINEAR | small | {"data.prepare": fitting})), dataset)


def test_data_without_named_columns(tmp_path: Path) -> None:
    rule = {"columns": ["x1"]}
    layers = {"model.layers": [{"type": "linear", "units": 3}]}
    assert list(problems(images(tmp_path), rule, **layers)) == ["data.prepare"]


def test_what_else_changes_rows(dataset: DatasetInfo, tmp_path: Path) -> None:
    assert problems(dataset, **{"data.scale": {"divide": 255}}) == {
        "data.scale": "scales numbers without missing values, but column 'age' has missing values: must be left out; "
        "data.prepare scales columns"
    }
    pixels = replace(images(tmp_path), columns=(Column("pixel", "number", width=60, missing=True),))
    flipped = {"model.layers": [{"type": "linear", "units": 3}], "data.augmentation": [{"type": "flip"}]}
    assert problems(pixels, **flipped) == {
        "data.augmentation": "changes images, but column 'pixel' has missing values: must be left out"
    }
    with pytest.raises(ValidationError, match="both prepare and scale"):
        DataSpec.model_validate({"dataset": "a", "scale": {"divide": 2}, "prepare": [{"columns": ["a"]}]})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"columns": []}, "at least 1 item"),
        ({"columns": ["a"], "clip": [3, 1]}, "the lowest number must not be above the highest"),
        ({"columns": ["a"], "clip": [3]}, "at least 2 items"),
        ({"columns": ["a"], "scale": "robust"}, "'standard', 'minmax' or 'none'"),
        ({"columns": ["a"], "impute": True}, "valid"),
        ({"columns": ["a"], "impute": float("nan")}, "finite"),
        ({"columns": [f"{index}*" for index in range(257)]}, "has 257 patterns: at most 256 are allowed"),
        ({"column": ["a"]}, "columns"),
    ],
)
def test_rules_that_no_dataset_has(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSpec.model_validate({"dataset": "a", "prepare": [rule]})


AGE, PORT = Column("age", "number", missing=True), Column("port", "category", categories=("C", "S"), missing=True)
FARE, STARRED = Column("fare", "number"), Column("f*", "number")


def meanings(*rules: dict[str, Any], columns: tuple[Column, ...] = (AGE, PORT, FARE), **data: Any) -> list[Any]:
    spec = DataSpec.model_validate({"dataset": "a", "prepare": list(rules), **data})
    return list(treatments_of(spec, columns))


def test_columns_without_a_rule_have_the_defaults() -> None:
    defaults = [NumberTreatment(AGE), CategoryTreatment(PORT), NumberTreatment(FARE)]
    assert meanings() == defaults
    assert meanings({"columns": ["*"]}) == defaults
    assert [each.impute for each in defaults] == ["median", None, "median"]
    assert meanings(standardize=False) == [
        NumberTreatment(AGE, scale="none"),
        CategoryTreatment(PORT),
        NumberTreatment(FARE, scale="none"),
    ]
    assert meanings(columns=(FARE,)) == []
    assert meanings({"columns": ["fare"]}, columns=(FARE,)) == [NumberTreatment(FARE)]


def test_the_first_rule_that_matches_is_the_one() -> None:
    rules = [
        {"columns": ["fare"], "scale": "minmax", "impute": 3},
        {"columns": ["p*"], "encode": "index", "impute": "S"},
        {"columns": ["*"], "impute": "most_frequent"},
    ]
    assert meanings(*rules) == [
        NumberTreatment(AGE, "most_frequent"),
        CategoryTreatment(PORT, "index", "S"),
        NumberTreatment(FARE, 3.0, scale="minmax"),
    ]
    # A name is no pattern, even with a star in it.
    assert meanings({"columns": ["f*"], "scale": "none"}, columns=(FARE, STARRED)) == [
        NumberTreatment(FARE),
        NumberTreatment(STARRED, scale="none"),
    ]


def test_the_width_follows_from_dataset_and_rules_alone(dataset: DatasetInfo) -> None:
    for seed in range(3):
        for share in (0.1, 0.9):
            changes = {"data.dataset": "a", "data.validation": share, "training.seed": seed, "training.batch_size": 5}
            resolved = resolve(JobSpec.model_validate(job(**LINEAR | changes)), dataset)
            assert resolved.spec.model.inputs == sum(each.width for each in resolved.treatments) == 22
    found = problems(dataset, **{"model.inputs": 5})
    assert found["model.inputs"] == (
        "is 5, but a prepared row of dataset 'passengers' has 22 features: must be 22, or left out"
    )


def test_memory_and_limits_count_prepared_rows(tmp_path: Path) -> None:
    """A column of 3,000 categories makes rows of 3,000 numbers."""
    names = [f"{index:04}" for index in range(3000)]
    wide = table_dataset(tmp_path, [categories("c", names)], np.arange(3000) % 2, classes=("x", "y"))
    changes = LINEAR | {"training.batch_size": 1000, "training.shards": 1}
    taken = []
    for rules in ([], [{"columns": ["c"], "encode": "index"}]):
        resolved = resolve(JobSpec.model_validate(job(**changes | {"data.prepare": rules})), wide)
        taken.append(resolved.memory.nbytes)
    assert taken[0] - taken[1] > 1000 * 2999 * 4
    with pytest.raises(SpecError, match="for a batch of 1000 rows of 3000 features, more than the limit"):
        resolve(JobSpec.model_validate(job(**changes)), wide, Limits(batch_bytes=10_000_000))


def test_the_resolved_spec_of_plain_numbers_does_not_change(tmp_path: Path) -> None:
    dataset = blobs(tmp_path)
    document = resolve(JobSpec.model_validate(job()), dataset).spec.model_dump(mode="json")
    assert "prepare" not in document["data"]
    again = {**document, "data": {**document["data"], "prepare": []}}
    assert JobSpec.model_validate(again).model_dump(mode="json") == document


def read_as_index(treatments: list[Any], position: int, entries: int = 3) -> tuple[list[Any], list[Any]]:
    """The warnings about a layer that reads one of the prepared numbers as an index."""
    layers = [
        {"type": "slice", "start": position, "stop": position + 1},
        {"type": "embedding", "entries": entries, "units": 2, "name": "codes"},
        {"type": "flatten"},
        {"type": "linear", "units": 2},
    ]
    width = sum(each.width for each in treatments)
    graph = build_classifier([entry_from_spec(layer) for layer in layers], width)
    data = DataSpec.model_validate({"dataset": "a"})
    changed = [(each.field, each.columns.tolist()) for each in changed_indices(data, graph, 99, treatments)]
    return changed, [(each.name, each.limit, each.indices) for each in layers_with_few_entries(graph, treatments)]


def test_layers_that_read_prepared_numbers_as_indices() -> None:
    index = CategoryTreatment(PORT, "index")
    assert read_as_index([index], 0) == ([], [])
    assert read_as_index([index], 0, entries=2) == ([], [("port", 2, 3)])
    assert read_as_index([CategoryTreatment(PORT), index], 3, entries=2) == ([], [("port", 2, 3)])
    # The numbers of one_hot, and indicators, are 0 and 1.
    assert read_as_index([CategoryTreatment(PORT)], 1, entries=2) == ([], [])
    assert read_as_index([NumberTreatment(AGE)], 1) == ([], [])
    for number in (NumberTreatment(FARE), NumberTreatment(FARE, log=True, scale="none")):
        assert read_as_index([index, number], 1) == ([("data.prepare", [1])], [])
    # Statistics of numbers that may be missing have fractions.
    assert read_as_index([NumberTreatment(AGE, scale="none")], 0) == ([("data.prepare", [0])], [])
    assert read_as_index([NumberTreatment(AGE, 0.5, scale="none")], 0) == ([("data.prepare", [0])], [])
    for impute in (2.0, "most_frequent"):
        assert read_as_index([NumberTreatment(AGE, impute, scale="none")], 0) == ([], [])
    assert read_as_index([NumberTreatment(FARE, scale="none")], 0) == ([], [])


def test_many_columns_and_rules_do_not_take_long() -> None:
    """Names are looked up: their number and that of the rules do not multiply."""
    columns = tuple(Column(f"c{index}", "number") for index in range(30_000))
    rules = [{"columns": [f"c{500 * rule + index}" for index in range(500)]} for rule in range(60)]
    began = time.process_time()
    assert len(meanings(*rules, columns=columns)) == 30_000
    assert time.process_time() - began < 20  # a tenth of a second; compared one by one, minutes


def test_given_values_are_those_of_the_raw_file(dataset: DatasetInfo) -> None:
    """The tests' own tables: codes count from 0 in the order of the categories."""
    column = Given(Column("c", "category", categories=("a", "b")), ["b", None, "a"])
    np.testing.assert_array_equal(column.raw, np.array([1, np.nan, 0], np.float32))
    assert [column.missing for column in dataset.columns] == [False, True, False, True, False]
