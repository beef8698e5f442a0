"""A spec that is accepted for a small dataset trains to its end, or fails with a reason that a user understands."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core import InvalidIndexError, registered, to_spec
from core.registry import LARGEST
from tests.workers.fixtures.helpers import LOSSES, assignment, blobs, images, instances, job, train
from workers.job.checks.model import Limits
from workers.job.checks.problems import SpecError
from workers.job.resolve import resolve
from workers.job.spec import JobSpec
from workers.training.trainer import NonFiniteStepError

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo

METRICS = ["val/loss", "val/accuracy", "val/hinge", "val/softmax"]
SMALL = Limits(parameters=20_000, batch_bytes=2_000_000)


def parts_of(kind: str, *names: str) -> st.SearchStrategy[dict[str, Any]]:
    """JSON of registered objects of a kind."""
    return st.sampled_from(names or sorted(registered(kind))).flatmap(
        lambda name: instances(registered(kind)[name]).map(to_spec)
    )


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


SHARES = optional(
    validation=st.just(0.0) | st.sampled_from([0.004, 0.01, 0.02, 0.5, 0.9, 0.97, 0.999]) | st.floats(0, 0.9),
    stratify=st.booleans(),
)
SPLITS = st.fixed_dictionaries(
    {"train": st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2)},
    optional={"validation": st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=2)},
).map(lambda split: {"split": split})
SCALES = optional(standardize=st.booleans()) | optional(
    scale=optional(subtract=st.floats(-1e30, 1e30), divide=st.floats(1e-30, 1e30))
)
ORDERS = optional(
    shuffle=st.fixed_dictionaries(
        {"type": st.just("chunks")}, optional={"chunk": st.integers(1, 2**32), "window": st.integers(1, 2**32)}
    )
)
IMAGES = optional(augmentation=st.lists(parts_of("augmentation"), max_size=2))


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


# By the number of the dataset.
DATA = [merged(SHARES, SCALES, ORDERS), merged(SHARES | SPLITS, SCALES, ORDERS, IMAGES)]
# Layers with several inputs need names; most losses of two classes do not fit three.
LAYERS = [name for name, layer in registered("layer").items() if layer.arity == 1 and not layer.variadic]
FITTING = ("hinge", "softmax", "sigmoid_cross_entropy")
WEIGHTS = st.just([]) | st.lists(st.floats(0, LARGEST), min_size=3, max_size=3)
LOSS = st.tuples(parts_of("loss", *FITTING), WEIGHTS).map(lambda both: {**both[0], "class_weights": both[1]})
LABEL_LOSSES = [name for name, loss in LOSSES.items() if loss.tasks != {"regression"}]
HIDDEN = st.lists(parts_of("layer", *LAYERS), max_size=2).map(lambda layers: [*layers, {"type": "flatten"}])
FIRST = st.just([{"type": "linear", "units": 6}]) | st.just([])
MODEL = st.tuples(FIRST, HIDDEN).map(lambda both: [*both[0], *both[1], {"type": "linear", "units": 3}])
TRAINING = st.fixed_dictionaries(
    {"epochs": st.integers(1, 2), "batch_size": st.integers(1, 24) | st.integers(1, 200)},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "shards": st.integers(1, 8),
        "clipping": parts_of("clipping"),
        "early_stopping": optional(
            metric=st.sampled_from(METRICS), patience=st.integers(1, 2), min_delta=st.floats(0, LARGEST)
        ),
    },
)
SPEC = st.fixed_dictionaries(
    {
        "name": st.just("any"),
        "model": MODEL.map(lambda layers: {"layers": layers}),
        "loss": st.one_of(LOSS, LOSS, parts_of("loss", *LABEL_LOSSES)),
        "optimizer": parts_of("optimizer"),
        "training": TRAINING,
    },
    optional={
        "regularization": optional(l1=st.floats(0, LARGEST), l2=st.floats(0, LARGEST)),
        "checkpoints": optional(
            every_seconds=st.floats(0, exclude_min=True, allow_infinity=False),
            every_steps=st.integers(1, 2**63),
            every_epochs=st.integers(1, 2**63),
            keep=st.integers(1, 3),
            best=st.sampled_from(METRICS),
        ),
    },
)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[DatasetInfo]:
    table, pictures = (tmp_path_factory.mktemp(name) for name in ("table", "pictures"))
    return [blobs(table, rows=40, features=4), images(pictures, parts=np.array(["a"] * 150 + ["b"] * 49 + ["c"]))]


# NumPy warns of numbers that are not finite. Training ends with the step whose loss is not.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=80, phases=[Phase.reuse, Phase.generate])  # each example trains, so shrinking takes minutes
@given(spec=SPEC, number=st.integers(0, 1), draw=st.data())
def test_an_accepted_spec_never_ends_with_an_internal_error(
    spec: dict[str, Any], number: int, draw: st.DataObject, datasets: list[DatasetInfo]
) -> None:
    spec["data"] = {"dataset": "small"} | draw.draw(DATA[number])
    with TemporaryDirectory() as folder:
        try:
            resolve(JobSpec.model_validate(spec), datasets[number], SMALL)
            given_job = assignment(spec, datasets[number], Path(folder))
        except (ValidationError, SpecError):
            event("refused")
            return
        (end,) = train(given_job).finished
    event(type(end).__name__)
    if isinstance(end, BaseException) and not isinstance(end, InvalidIndexError | NonFiniteStepError):
        raise end


@pytest.mark.parametrize("metric", METRICS)
def test_the_default_best_metric_may_be_named_without_validation_rows(
    datasets: list[DatasetInfo], tmp_path: Path, metric: str
) -> None:
    """A resolved spec names it, and can be submitted again."""
    first = assignment(job(**{"data.validation": 0.0, "training.batch_size": 20}), datasets[0], tmp_path)
    again = {**first.spec, "checkpoints": {**first.spec["checkpoints"], "best": metric}}
    if metric == "val/loss":
        assert assignment(again, datasets[0], tmp_path).spec == first.spec
    else:
        with pytest.raises(SpecError, match=r"checkpoints\.best"):
            assignment(again, datasets[0], tmp_path)
