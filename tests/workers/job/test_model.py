"""Models with branches: from JSON to a graph, and the errors of invalid models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from core import Linear, ReLU, build_classifier, entry_from_spec, registered, to_spec
from tests.workers.fixtures.helpers import assignment, blobs, completed, job
from workers.data.dataset import DatasetInfo
from workers.job.checks.model import Limits
from workers.job.checks.problems import SpecError
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

BRANCHES: list[dict[str, Any]] = [
    {"type": "linear", "units": 16, "name": "stem"},
    {"type": "relu", "name": "left"},
    {"type": "linear", "units": 8, "name": "right", "inputs": ["stem"]},
    {"type": "tanh"},
    {"type": "concat", "inputs": ["left", "3_tanh"]},
    {"type": "linear", "units": 16},
    {"type": "add", "inputs": ["5_linear", "stem"]},
    {"type": "linear", "units": 16, "share": "5_linear", "inputs": ["4_concat"]},
    {"type": "multiply", "inputs": ["6_add", "7_linear"]},
    {"type": "linear", "units": 3},
]
DATASET = DatasetInfo("/nowhere", "0" * 64, rows=333, features=20, classes=("a", "b", "c"))


def changed(entry: int, **fields: Any) -> list[dict[str, Any]]:
    return [layer | fields if index == entry else layer for index, layer in enumerate(BRANCHES)]


def spec_of(layers: list[dict[str, Any]], **changes: Any) -> JobSpec:
    return JobSpec.model_validate(job(**{"model.layers": layers} | changes))


def test_a_chain_is_written_without_names_and_inputs() -> None:
    layers = [{"type": "linear", "units": 4}, {"type": "relu"}, {"type": "linear", "units": 3}]
    dumped = spec_of(layers).model_dump(mode="json")["model"]["layers"]
    assert dumped == [to_spec(Linear(units=4)), to_spec(ReLU()), to_spec(Linear(units=3))]


def test_branches_round_trip_through_json() -> None:
    spec = spec_of(BRANCHES)
    again = JobSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    dumped = spec.model_dump(mode="json")["model"]["layers"]
    for given, written in zip(BRANCHES, dumped, strict=True):
        assert given.items() <= written.items()
        assert {"name", "inputs", "share"} & set(written) == {"name", "inputs", "share"} & set(given)


def test_multipliers_round_trip_through_json() -> None:
    layers = changed(2, multipliers={"weight": {"decay": 0.5}, "bias": {"learning_rate": 2, "decay": 0}})
    spec = spec_of(layers)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    written = spec.model_dump(mode="json")["model"]["layers"]
    assert written[2]["multipliers"] == {
        "weight": {"learning_rate": 1.0, "decay": 0.5},
        "bias": {"learning_rate": 2.0, "decay": 0.0},
    }
    # What another program reads from the resolved spec, such as a saved model.
    assert entry_from_spec(written[2]) == spec.model.layers[2]
    assert resolve(spec, DATASET).spec.model.layers == spec.model.layers


def test_branches_are_built_as_written() -> None:
    graph = build_classifier(spec_of(BRANCHES).model.layers, 20)
    assert graph.nodes["4_concat"].inputs == ("left", "3_tanh")
    assert graph.nodes["7_linear"].owner == "5_linear"
    assert resolve(spec_of(BRANCHES), DATASET).parameters == sum(
        rows * columns + columns for rows, columns in ((20, 16), (16, 8), (24, 16), (16, 3))
    )


def test_a_model_can_name_every_layer() -> None:
    schema = JobSpec.model_json_schema()
    known = schema["$defs"]["ModelSpec"]["properties"]["layers"]["items"]["discriminator"]["mapping"]
    assert set(registered("layer")) <= set(known)


PROBLEMS: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "an unknown input": (changed(4, inputs=["left", "rihgt"]), "model.layers.4.inputs", "did you mean 'right'?"),
    "a later input": (changed(2, inputs=["6_add"]), "model.layers.2.inputs", "comes later"),
    "one input too few": (changed(6, inputs=["stem"]), "model.layers.6.inputs", "2 inputs"),
    "an unknown shared layer": (changed(7, share="6_linear"), "model.layers.7.share", "did you mean '5_linear'?"),
    "parameters of another shape": (changed(7, inputs=["stem"]), "model.layers.7", "5_linear.weight of shape (16, 16)"),
    "a duplicate name": (changed(2, name="stem"), "model.layers.2.name", "taken by layer 0"),
    "a reserved name": (changed(2, name="labels"), "model.layers.2.name", "reserved"),
    "multipliers of no parameter": (
        changed(2, multipliers={"biass": {"decay": 0}}), "model.layers.2.multipliers", "did you mean 'bias'?"
    ),
    "multipliers of shared parameters": (
        changed(7, multipliers={"bias": {"decay": 0}}), "model.layers.7.multipliers", "parameters of '5_linear'"
    ),
    "incompatible shapes": (changed(5, units=15), "model.layers.6", "(1, 15) and (1, 16)"),
    "an unused output": (changed(8, inputs=["6_add", "6_add"]), "model.layers.7", "no layer reads '7_linear'"),
    "scores of another shape": ([*BRANCHES, {"type": "reshape", "shape": [1, 3]}], "model.layers.10", "1 x 3 scores"),
    "too much memory": (
        [{"type": "linear", "units": 1000}, {"type": "one_hot", "classes": 10**6}, {"type": "max", "axes": [2]},
         {"type": "linear", "units": 3}],
        "model.layers", f"{Limits.batch_bytes:,}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_names_its_entry(case: str) -> None:
    layers, field, words = PROBLEMS[case]
    with pytest.raises(SpecError) as caught:
        resolve(spec_of(layers), DATASET)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert words in problem.message


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"name": "a.b"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": 3}, "name"),
        ({"inputs": "stem"}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [None]}, "inputs.0"),
        ({"share": ["stem"]}, "share"),
        ({"reads": ["stem"]}, "reads"),
        ({"multipliers": {}}, "multipliers"),
        ({"multipliers": {"a.b": {"decay": 0}}}, "multipliers.a.b.[key]"),
        ({"multipliers": {"bias": 2}}, "multipliers.bias"),
        ({"multipliers": {"bias": {"lr": 2}}}, "multipliers.bias.lr"),
        ({"multipliers": {"bias": {"decay": -1}}}, "multipliers.bias.decay"),
        ({"multipliers": {"bias": {"learning_rate": 1001}}}, "multipliers.bias.learning_rate"),
        ({"multipliers": {"bias": {"learning_rate": None}}}, "multipliers.bias.learning_rate"),
    ],
)
def test_names_inputs_and_shares_of_the_wrong_form_are_refused(fields: dict[str, Any], location: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec_of(changed(3, **fields))
    assert {".".join(map(str, each["loc"][4:])) for each in caught.value.errors()} == {location}


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({"type": "soft_margin"}, "soft_margin is a loss for binary, but the dataset has 3 classes"),
        (
            {"type": "weighted_sum", "losses": [{"type": "squared_error"}], "weights": [1.0]},
            "weighted_sum is a loss for regression, but the dataset has 3 classes",
        ),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(loss: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(JobSpec.model_validate(job(loss=loss)), DATASET)
    (problem,) = caught.value.problems
    assert problem.field == "loss"
    assert words in problem.message


def test_branches_train_to_the_same_bits_on_any_number_of_workers(tmp_path: Path) -> None:
    dataset = blobs(tmp_path)
    outcomes = []
    for workers in (1, 3):
        spec = job(**{"model.layers": BRANCHES, "resources.workers": workers, "training.epochs": 6})
        outcomes.append(completed(assignment(spec, dataset, tmp_path / str(workers))))
    one, three = outcomes
    assert one.params_sha256 == three.params_sha256
    assert one.series == three.series
    losses = [loss for _, loss in one.series["train/loss"]]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
