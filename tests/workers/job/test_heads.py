"""Auxiliary heads in the spec of a job: they train with the model, and its figures are those of the model alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from core import Entry, Head, Linear
from tests.workers.fixtures.helpers import assignment, blobs, completed, job, last_checkpoint
from workers.data.dataset import DatasetInfo
from workers.job.checks.problems import SpecError
from workers.job.computation import Computation
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

DATASET = DatasetInfo("/nowhere", "0" * 64, rows=333, features=20, classes=("a", "b", "c"))
LAYERS = [
    {"type": "linear", "units": 16, "name": "stem"},
    {"type": "repeat", "times": 2, "layers": [{"type": "linear", "units": 8}, {"type": "relu"}], "name": "trunk"},
    {"type": "linear", "units": 3},
]
SCORES = {"type": "linear", "units": 3}
HEADS: list[dict[str, Any]] = [
    {"reads": "stem", "weight": 0.4, "layers": [{"type": "relu"}, SCORES]},
    {"reads": "trunk", "layers": [SCORES], "name": "late"},
]


def spec_with(*heads: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return job(**{"model.layers": LAYERS, **({"model.heads": list(heads)} if heads else {}), **changes})


def test_heads_round_trip_through_json_and_are_left_out_without_any() -> None:
    spec = resolve(JobSpec.model_validate(spec_with(*HEADS)), DATASET).spec
    assert spec.model.heads[1] == Head("trunk", (Entry(Linear(units=3)),), 0.3, "late")
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert [head["weight"] for head in spec.model_dump(mode="json")["model"]["heads"]] == [0.4, 0.3]
    plain = resolve(JobSpec.model_validate(spec_with()), DATASET)
    assert "heads" not in plain.spec.model_dump(mode="json")["model"]
    assert resolve(spec, DATASET).parameters == plain.parameters + (16 * 3 + 3) + (8 * 3 + 3)


@pytest.mark.parametrize(
    ("head", "field", "words"),
    [
        ({"reads": "stme"}, "model.heads.1.reads", "did you mean 'stem'?"),
        ({"reads": "trunk_0"}, "model.heads.1.reads", "these are features, stem, trunk, scores"),
        ({"name": "head_0"}, "model.heads.1.name", "already taken"),
        ({"layers": [{"type": "linear", "units": 4}]}, "model.heads.1.layers.0", "(4,), but those of the model"),
        ({"layers": [{"type": "add"}, SCORES]}, "model.heads.1.layers.0.inputs", "2 inputs"),
    ],
)
def test_a_problem_names_the_head(head: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(JobSpec.model_validate(spec_with(HEADS[0], HEADS[1] | head)), DATASET)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert words in problem.message


@pytest.mark.parametrize(
    ("head", "place"),
    [
        ({"weight": 0}, "weight"),
        ({"layers": []}, "layers"),
        ({"layers": [{"type": "linear", "units": 0}]}, "layers.0.linear.units"),
        ({"loss": {"type": "hinge"}}, "loss"),
        ({"name": "a.b"}, "name"),
    ],
)
def test_wrong_fields_of_a_head_are_refused(head: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(spec_with(HEADS[0] | head))
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [f"model.heads.0.{place}"]


def test_layers_of_heads_count() -> None:
    huge = {"type": "repeat", "times": 1024, "layers": [{"type": "relu"}]}
    with pytest.raises(ValidationError, match=r"makes 1,032 layers with blocks expanded: at most 1,024 are allowed"):
        JobSpec.model_validate(spec_with(HEADS[0], {"reads": "stem", "layers": [huge]}))


def test_the_estimate_of_memory_counts_heads() -> None:
    plain, large = (
        resolve(JobSpec.model_validate(spec_with(*heads)), DATASET).memory
        for heads in ((), (HEADS[0] | {"layers": [{"type": "linear", "units": 999}, SCORES]},))
    )
    assert large.nbytes > plain.nbytes + 4 * 5 * 999 * 16
    assert large.largest_layer == "head_0_0_linear"


def test_heads_train_to_the_same_bits_on_any_number_of_workers(tmp_path: Path) -> None:
    dataset = blobs(tmp_path)
    one, three = (
        completed(assignment(spec_with(*HEADS, **{"resources.workers": workers}), dataset, tmp_path / str(workers)))
        for workers in (1, 3)
    )
    assert one.params_sha256 == three.params_sha256
    assert one.series == three.series


def test_figures_are_those_of_the_model_alone(tmp_path: Path) -> None:
    dataset = blobs(tmp_path)
    first = []
    for number, heads in enumerate(([], HEADS)):
        given = assignment(spec_with(*heads, **{"regularization.l2": 0.0}), dataset, tmp_path / str(number))
        series = completed(given).series
        first.append((series["train/loss"][0], sorted(series)))
        computation = Computation.of(JobSpec.model_validate(given.spec), dataset, 266)
        steps = [step.name for step in computation.evaluation_program(10).instructions]
        assert "trunk" in steps
        assert not any("late" in name or "head_0" in name for name in steps)
    # Initial parameters depend on the seed and their names, so before the first update both models are the same.
    assert first[0] == first[1]


def test_heads_help_to_train_what_they_read_and_are_in_the_checkpoint(tmp_path: Path) -> None:
    dataset = blobs(tmp_path)
    stems = []
    for weight in (0.001, 1.0):
        given = assignment(spec_with(HEADS[0] | {"weight": weight}), dataset, tmp_path / str(weight))
        completed(given)
        tensors = load_file(last_checkpoint(given.directory) / "model.safetensors")
        assert "head_0.weight" in tensors
        stems.append(tensors["stem.weight"])
    assert not np.allclose(*stems, rtol=1e-3)
