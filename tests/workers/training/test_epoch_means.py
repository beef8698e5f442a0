from __future__ import annotations

from workers.exchange.control import Command
from workers.exchange.vectors import FIRST_COLUMNS
from workers.job.metrics import JobMetrics
from workers.job.tallies import Tallies
from workers.training.epoch_means import EpochMeans
from workers.training.step import StepResult

METRICS = JobMetrics("classification", 3)
TALLIES = Tallies(METRICS.training, 3, FIRST_COLUMNS)
# Sum of the losses, active and correct samples; rows and penalty.
STEPS = [((5.0, 4.0, 1.0), 10, 0.5), ((3.0, 0.0, 2.0), 4, 0.25)]
RESULTS = [StepResult(rows, sums, penalty, 1.0, Command.NONE) for sums, rows, penalty in STEPS]
EXPECTED = {
    "train/loss_epoch": 8 / 14 + 6 / 14,
    "train/data_loss_epoch": 8 / 14,
    "train/reg_loss_epoch": 6 / 14,
    "train/accuracy_epoch": 3 / 14,
    "train/active_fraction_epoch": 4 / 14,
}


def test_each_sample_counts_once() -> None:
    means = EpochMeans(TALLIES, [])
    for _ in range(2):
        for result in RESULTS:
            means.add(result)
        assert means.take() == EXPECTED


def test_the_sums_of_a_checkpoint_continue_an_epoch() -> None:
    before = EpochMeans(TALLIES, [])
    before.add(RESULTS[0])
    after = EpochMeans(TALLIES, before.sums)
    after.add(RESULTS[1])
    assert after.take() == EXPECTED


def test_an_epoch_has_no_means_if_its_first_steps_are_not_known() -> None:
    """As after a checkpoint of a version that did not have the sums."""
    means = EpochMeans(TALLIES, None)
    means.add(RESULTS[1])
    assert means.sums is None
    assert means.take() == {}
    for result in RESULTS:
        means.add(result)
    assert means.take() == EXPECTED


def test_equal_tallies_are_made_once_and_the_largest_values_are_combined_as_such() -> None:
    metrics = JobMetrics("regression", 2)
    tallies = Tallies(metrics.tallied, 2, 1)
    distinct = {metric.tally for metric in metrics.tallied}
    assert len(distinct) < len(metrics.tallied)
    assert tallies.stop == 1 + sum(tally.columns(2) for tally in distinct)
    assert {tally.combine for tally in distinct} == {"sum", "max"}
