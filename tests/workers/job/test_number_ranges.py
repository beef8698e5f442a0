"""Numbers of a spec are in the range with which training starts; beyond it the field and the range are named."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from core import registered
from core.registry import LARGEST, item_type
from tests.workers.fixtures.helpers import assignment, blobs, job, train
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

    from workers.data.dataset import DatasetInfo

KINDS = ("layer", "loss", "optimizer", "schedule", "initializer", "clipping")
FLOATS = [
    (kind, name, field.name)
    for kind in KINDS
    for name, cls in registered(kind).items()
    for field in dataclasses.fields(cls)
    if (item_type(cls.annotations[field.name]) or cls.annotations[field.name]) is float
]
SUM = {"type": "weighted_sum", "losses": [{"type": "softmax"}]}
NEEDED = {
    "inverse": {"decay": 0.1},
    "step": {"every": 1},
    "multistep": {"at": [1]},
    "rrelu": {"lower": 0.0, "upper": 1.0},
}
# The job here is a classifier, and whether a power overflows depends on the data.
STARTING = [
    (kind, name, field)
    for kind, name, field in FLOATS
    if name != "power" and (kind != "loss" or "classification" in registered("loss")[name].tasks)
]


def spec_with(kind: str, name: str, field: str, value: float) -> tuple[dict[str, Any], str]:
    """A job of one step that has a number in a field of a part, and the dotted path of that field."""
    is_list = item_type(registered(kind)[name].annotations[field]) is not None
    part: dict[str, Any] = {"type": name, **NEEDED.get(name, {}), field: value}
    if name == "weighted_sum":
        part |= {**SUM, "weights": [value]}
    elif field == "class_weights":
        part["class_weights"] = [1.0, value, 1.0]
    linear = {"type": "linear", "units": 3}
    changes: dict[str, Any] = {"training.epochs": 1, "training.batch_size": 24}
    match kind:
        case "layer":
            # Images, since some layers read nothing else.
            path = "model.layers.2"
            image, flat = {"type": "reshape", "shape": [1, 2, 3]}, {"type": "flatten"}
            changes["model.layers"] = [{"type": "linear", "units": 6}, image, part, flat, linear]
        case "loss":
            path = "loss"
            changes["loss"] = part
        case "optimizer":
            path = "optimizer"
            changes["optimizer"] = part
        case "schedule":
            path = "optimizer.schedule"
            changes["optimizer"] = {"type": "sgd", "schedule": part}
        case "initializer":
            path = "model.layers.0.weight"
            changes["model.layers"] = [{**linear, "weight": part}]
        case _:
            path = "training.clipping"
            changes["training.clipping"] = part
    index = "" if not is_list else ".0" if name == "weighted_sum" else ".1"
    return job(**changes), f"{path}.{field}{index}"


def ends(kind: str, name: str, field: str) -> list[float]:
    """The least and the largest number of a field."""
    metadata = {each.name: each.metadata for each in dataclasses.fields(registered(kind)[name])}[field]
    low = metadata["ge"] if metadata["gt"] is None else np.nextafter(metadata["gt"], np.inf)
    high = metadata["le"] if metadata["lt"] is None else np.nextafter(metadata["lt"], -np.inf)
    return [float(low), float(high)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return blobs(tmp_path_factory.mktemp("blobs"), rows=30, features=4)


@pytest.mark.parametrize(("kind", "name", "field"), FLOATS)
@pytest.mark.parametrize("value", [1e39, -1e39, 1e300, -2 * LARGEST])
def test_a_number_beyond_the_range_is_refused_by_name(kind: str, name: str, field: str, value: float) -> None:
    spec, path = spec_with(kind, name, field, value)
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(spec)
    (error,) = caught.value.errors()
    found = [str(part) for part in error["loc"]]
    # Pydantic adds the types of parts.
    left = iter(found)
    assert all(part in left for part in path.split(".")), found
    assert error["type"] in {"greater_than_equal", "greater_than", "less_than_equal", "less_than"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the validation after the step
@pytest.mark.parametrize(("kind", "name", "field"), STARTING)
def test_training_starts_with_the_least_and_the_largest_number(
    tmp_path: Path, dataset: DatasetInfo, kind: str, name: str, field: str
) -> None:
    for number, value in enumerate(ends(kind, name, field)):
        spec, _ = spec_with(kind, name, field, value)
        outcome = train(assignment(spec, dataset, tmp_path / str(number)))
        (end,) = outcome.finished
        assert not isinstance(end, BaseException), (value, end)
        assert np.isfinite(outcome.series["train/loss"][0][1]), value
