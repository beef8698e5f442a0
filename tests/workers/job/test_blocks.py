"""Blocks in the spec of a job: they stay folded, their layers are counted, and errors name the place in the block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from core import Repeat, registered
from tests.workers.fixtures.helpers import assignment, blobs, completed, job
from workers.data.dataset import DatasetInfo
from workers.job.checks.problems import SpecError
from workers.job.fields import DEEPEST_BLOCKS, MOST_LAYERS
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

DATASET = DatasetInfo("/nowhere", "0" * 64, rows=333, features=20, classes=("a", "b", "c"))
LINEAR = {"type": "linear", "units": 20}
SCORES = {"type": "linear", "units": 3}


def repeat(*layers: dict[str, Any], times: int = 2, **place: Any) -> dict[str, Any]:
    return {"type": "repeat", "times": times, "layers": list(layers), **place}


def spec_of(*layers: dict[str, Any], **changes: Any) -> JobSpec:
    return JobSpec.model_validate(job(**{"model.layers": list(layers)} | changes))


def problems_of(*layers: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        spec_of(*layers)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in caught.value.errors()]


NESTED = repeat(
    {"type": "residual", "layers": [LINEAR, {"type": "relu"}], "name": "a"}, name="trunk", inputs=["features"]
)


def test_blocks_stay_folded() -> None:
    resolved = resolve(spec_of(NESTED, SCORES), DATASET)
    (written, _) = resolved.spec.model_dump(mode="json")["model"]["layers"]
    assert written == {
        "type": "repeat",
        "times": 2,
        "layers": [
            {
                "type": "residual",
                "layers": [
                    LINEAR | {"weight": {"type": "he"}, "bias": {"type": "zeros"}, "penalized": True},
                    {"type": "relu"},
                ],
                "shortcut": [],
                "name": "a",
            }
        ],
        "name": "trunk",
        "inputs": ["features"],
    }
    assert JobSpec.model_validate_json(resolved.spec.model_dump_json()) == resolved.spec
    assert resolved.parameters == 2 * 420 + 63


def test_a_model_can_name_every_block_at_any_depth() -> None:
    schema = JobSpec.model_json_schema()
    for place in ("ModelSpec", "RepeatBlock"):
        known = schema["$defs"][place]["properties"]["layers"]["items"]["discriminator"]["mapping"]
        assert {*registered("layer"), *registered("block")} == set(known)


def test_errors_of_fields_name_the_place_in_the_block() -> None:
    found = problems_of(repeat({"type": "residual", "layers": [LINEAR | {"units": 0}]}), SCORES)
    assert [place for place, _ in found] == ["model.layers.0.repeat.layers.0.residual.layers.0.linear.units"]
    assert problems_of(repeat(LINEAR, share="x"), SCORES)[0][0] == "model.layers.0.repeat.share"
    assert "repeat.layers must have at least one layer" in problems_of(repeat(), SCORES)[0][1]


def test_errors_of_the_graph_name_the_place_in_the_block() -> None:
    with pytest.raises(SpecError) as caught:
        resolve(spec_of(repeat(LINEAR, {"type": "relu", "inputs": ["0_linaer"]}), SCORES), DATASET)
    (problem,) = caught.value.problems
    assert problem.field == "model.layers.0.layers.1.inputs"
    assert "did you mean '0_linear'?" in problem.message


def nested(depth: int) -> dict[str, Any]:
    return repeat(LINEAR if depth == 1 else nested(depth - 1), times=1)


def test_layers_are_counted_before_a_block_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    spec_of(repeat(LINEAR, times=MOST_LAYERS - 1), SCORES)
    monkeypatch.setattr(Repeat, "entries", lambda _: pytest.fail("the block is expanded"))
    ((place, message),) = problems_of(repeat(LINEAR, times=MOST_LAYERS), SCORES)
    assert place == "model"
    assert "makes 1,025 layers with blocks expanded: at most 1,024 are allowed in a model" in message
    huge = LINEAR
    for _ in range(DEEPEST_BLOCKS):
        huge = repeat(huge, times=1024)
    ((_, message),) = problems_of(huge, SCORES)
    assert f"makes {1024**8 + 1:,} layers" in message


def test_the_depth_of_blocks_is_limited() -> None:
    assert resolve(spec_of(nested(DEEPEST_BLOCKS), SCORES), DATASET).parameters == 420 + 63
    ((_, message),) = problems_of(nested(DEEPEST_BLOCKS + 1), SCORES)
    assert "nested too deep: at most 8 levels" in message


def test_a_list_in_a_block_is_as_long_as_a_model_at_most() -> None:
    ((place, message),) = problems_of(repeat(*[LINEAR] * (MOST_LAYERS + 1)), SCORES)
    assert place == "model.layers.0.repeat.layers"
    assert "at most 1024 items" in message


def test_blocks_train_to_the_same_bits_on_any_number_of_workers(tmp_path: Path) -> None:
    dataset = blobs(tmp_path)
    layers = [NESTED, {"type": "dense", "times": 2, "layers": [LINEAR, {"type": "dropout"}]}, SCORES]
    one, three = (
        completed(
            assignment(
                job(**{"model.layers": layers, "resources.workers": workers, "optimizer.lr": 0.005}),
                dataset,
                tmp_path / str(workers),
            )
        )
        for workers in (1, 3)
    )
    assert one.params_sha256 == three.params_sha256
    assert one.series == three.series
