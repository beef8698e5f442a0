"""Training on tables that are prepared: no bit depends on the workers, nor any statistic on the validation rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.workers.fixtures.helpers import assignment, checkpoint_files, completed, job, last_checkpoint, train
from tests.workers.fixtures.tabular import numbers, passengers, table_dataset
from workers.data.dataset import open_dataset
from workers.exchange.control import Command
from workers.job.data import split_rows
from workers.job.spec import JobSpec
from workers.record.checkpoint import place_of
from workers.record.events import Checkpointed
from workers.training.assignment import End, Replay

if TYPE_CHECKING:
    from pathlib import Path

    from workers.data.dataset import DatasetInfo

RULES = [
    {"columns": ["fare"], "log": True, "clip": [0, 300]},
    {"columns": ["a*"], "impute": "mean", "scale": "minmax"},
    {"columns": ["port"], "impute": "most_frequent"},
    {"columns": ["deck"], "encode": "index"},
]
# Half of the prepared row of `RULES`: fare, age, age is missing, 2 sexes, 4 ports, deck.
LAYERS = [
    {"type": "slice", "start": 9, "name": "deck", "inputs": ["features"]},
    {"type": "embedding", "entries": 13, "units": 3, "name": "decks"},
    {"type": "flatten", "name": "flat"},
    {"type": "slice", "stop": 9, "name": "rest", "inputs": ["features"]},
    {"type": "concat", "inputs": ["rest", "flat"]},
    {"type": "linear", "units": 2},
]
PLACES = [(1, 1), (1, 2), (2, 1), (3, 2), (5, 1)]


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use all threads, although the models here are small."""
    monkeypatch.setattr("workers.training.gradients.SMALLEST_SHARE", 1)


def table_job(**changes: Any) -> dict[str, Any]:
    own = {"data.dataset": "passengers", "data.prepare": RULES, "model.layers": LAYERS, "training.shards": 5}
    return job(**own | changes)


def result(dataset: DatasetInfo, directory: Path, **changes: Any) -> tuple[Any, ...]:
    outcome = completed(assignment(table_job(**changes), dataset, directory))
    return outcome.params_sha256, outcome.series, checkpoint_files(directory)


def test_a_table_trains_with_the_defaults(tmp_path: Path) -> None:
    linear = [{"type": "linear", "units": 2}]
    spec = job(**{"data": {"dataset": "passengers"}, "model.layers": linear, "training.epochs": 20})
    given = assignment(spec, passengers(tmp_path), tmp_path)
    # fare, age, age is missing, 2 sexes, 4 ports and one that is missing, 12 decks
    assert given.spec["model"]["inputs"] == 2 + 1 + 2 + 5 + 12
    outcome = completed(given)
    assert outcome.evaluated.metrics["val/accuracy"] > 0.65


def test_no_bit_depends_on_where_rows_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = passengers(tmp_path)
    expected = result(dataset, tmp_path / "one")
    for workers, cpus in PLACES:
        places = {"workers": workers, "cpus_per_worker": cpus}
        assert result(dataset, tmp_path / f"{workers}-{cpus}", resources=places) == expected, (workers, cpus)
    monkeypatch.setattr("core.tables.preparation.PIECE", 200)
    assert result(dataset, tmp_path / "pieces") == expected


@pytest.mark.parametrize("step", [1, 6])
def test_a_resumed_job_has_the_bits_of_one_that_was_not_stopped(tmp_path: Path, step: int) -> None:
    dataset = passengers(tmp_path)
    expected = result(dataset, tmp_path / "one")
    begun = assignment(table_job(), dataset, tmp_path / "two")
    steps = iter(range(1, step + 1))
    train(begun, pending_command=lambda: Command.STOP | Command.CHECKPOINT if next(steps) == step else Command.NONE)
    outcome = train(begun, checkpoint=last_checkpoint(tmp_path / "two"))
    assert outcome.params_sha256 == expected[0]
    assert checkpoint_files(tmp_path / "two") == expected[2]


def test_a_replayed_interval_ends_with_the_state_of_the_job(tmp_path: Path) -> None:
    """As the verification of a certificate replays it, from a checkpoint of the job."""
    dataset = passengers(tmp_path)
    often = {"checkpoints": {"every_steps": 4, "keep": 9}}
    given = assignment(table_job(**often), dataset, tmp_path / "one")
    states = {event.step: event.state_sha256 for event in completed(given).events if isinstance(event, Checkpointed)}
    start = place_of(given.directory, 4)
    replay = Replay(given.job, given.computation_sha256, start, states[4])
    again = replace(given, job="other", directory=tmp_path / "two", reported_step=4, until_step=8, replay=replay)
    outcome = train(again, checkpoint=start)
    assert outcome.finished == [End.REACHED]
    assert {event.step: event.state_sha256 for event in outcome.events if isinstance(event, Checkpointed)} == {
        8: states[8]
    }


def test_the_validation_rows_change_neither_statistics_nor_parameters(tmp_path: Path) -> None:
    """They may have any of the numbers and categories that the dataset has."""
    dataset = passengers(tmp_path)
    given = assignment(table_job(), dataset, tmp_path / "one")
    features, truth = open_dataset(dataset)
    trained, validated = split_rows(JobSpec.model_validate(given.spec), dataset, truth)
    changed = features.copy()
    changed[validated] = np.roll(changed[validated], 3, axis=0)
    changed[validated[:5], 1] = np.nan
    changed[validated[5:], 0] = 290
    decoded = {
        column.name: [
            None if np.isnan(value) else column.categories[int(value)] if column.kind == "category" else value
            for value in changed[:, position].tolist()
        ]
        for position, column in enumerate(dataset.columns)
    }
    other = assignment(table_job(), passengers(tmp_path, changed=decoded), tmp_path / "other")
    assert not np.array_equal(open_dataset(other.dataset)[0], features, equal_nan=True)
    assert np.array_equal(open_dataset(other.dataset)[0][trained], features[trained], equal_nan=True)
    assert completed(other).params_sha256 == completed(given).params_sha256
    saved, others = (load_file(last_checkpoint(tmp_path / name) / "model.safetensors") for name in ("one", "other"))
    assert {name: tensor.tobytes() for name, tensor in saved.items()} == {
        name: tensor.tobytes() for name, tensor in others.items()
    }
    assert {name for name in saved if name.startswith("inputs.")} == {
        f"inputs.{name}" for name in ("fill", "mean", "deviation", "place")
    }


def test_rules_on_plain_numbers_give_the_bits_of_standardization(tmp_path: Path) -> None:
    """The parameters are the same bit for bit, whether the columns are standardized by a rule or without one."""
    values = np.random.default_rng(2).normal(3, 20, (2, 211)).round(2)
    columns = [numbers("a", values[0].tolist()), numbers("b", values[1].tolist())]
    dataset = table_dataset(tmp_path, columns, values[0] > values[1], classes=("less", "more"))
    linear = {"model.layers": [{"type": "linear", "units": 2}]}
    plain = result(dataset, tmp_path / "plain", **linear | {"data.prepare": []})
    ruled = result(dataset, tmp_path / "ruled", **linear | {"data.prepare": [{"columns": ["*"]}]})
    assert ruled[:2] == plain[:2]
