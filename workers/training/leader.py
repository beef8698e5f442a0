"""What the worker of rank 0 does besides training: it gives the commands, reports progress, and writes checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from workers.exchange.control import Command
from workers.job.computation import Computation
from workers.job.spec import JobSpec
from workers.record.checkpoint import Origin, Snapshot, Vector
from workers.record.checkpoint_writer import CheckpointWriter, DueDates
from workers.record.events import Evaluated, Event, Noted, Progress, Series, Started
from workers.record.history import History, thinned
from workers.record.history_files import mend_history, read_history
from workers.record.milestones import Milestones
from workers.training.assignment import Assignment
from workers.training.epoch_means import EpochMeans
from workers.training.step import StepResult

REPORT_INTERVAL = 0.2  # seconds


class Leader:
    """The leader of an attempt that has `started` after a step.

    `report` takes the attempt's events, from two threads. `pending_command` returns the command from outside.
    """

    def __init__(
        self,
        assignment: Assignment,
        spec: JobSpec,
        computation: Computation,
        started: Started,
        *,
        steps_per_epoch: int,
        report: Callable[[Event], None],
        pending_command: Callable[[], Command],
    ) -> None:
        self._directory, self._reported_before = assignment.directory, assignment.reported_step
        self._started, self._steps_per_epoch = started, steps_per_epoch
        self._replays = assignment.replay is not None
        self._report, self._pending_command = report, pending_command
        metrics, total_steps = computation.metrics, spec.training.epochs * steps_per_epoch
        self._history = History(
            started.step, total_steps, step_series=metrics.step_series, epoch_series=metrics.epoch_series
        )
        self._tallies = computation.training_tallies
        self._means = EpochMeans(self._tallies, [])
        self._milestones = Milestones(computation.layout, total_steps)
        self._reported_at = -math.inf  # the first loss is reported at once
        self._due_dates = DueDates(spec.checkpoints, steps_per_epoch)
        origin = Origin(
            job=assignment.job,
            attempt=assignment.attempt,
            spec=assignment.spec,
            computation=assignment.computation_sha256,
            inputs=assignment.input_tensors,
            fingerprint=started.fingerprint,
        )
        self._writer = CheckpointWriter(
            assignment.directory, origin, computation.layout, keep=spec.checkpoints.keep, report=report
        )

    def continue_from(self, snapshot: Snapshot) -> None:
        """Continue from a checkpoint: its epoch's sums, and its milestones, whose reports may be lost."""
        begins = snapshot.step % self._steps_per_epoch == 0
        self._means = EpochMeans(self._tallies, [] if begins else snapshot.epoch_sums)
        self._milestones.restore(snapshot.milestones)

    def begin(self) -> None:
        """Report that training starts, and the points before that step that were recorded but not reported."""
        self._report(self._started)
        step = self._started.step
        missing = mend_history(self._directory, step)
        if missing and not self._replays:
            self._report(Noted("history_damaged", {"message": missing}))
        table = read_history(self._directory, after=self._reported_before, upto=step)
        if table.num_rows:
            self._report_progress(step, thinned(table, self._history.stride, self._history.last_step))

    def command(self, step: int) -> Command:
        """The command for all workers after a step: the one from outside, and a checkpoint if one is due."""
        return self._pending_command() | (Command.CHECKPOINT if self._due_dates.due(step) else Command.NONE)

    def record_step(self, step: int, result: StepResult) -> None:
        """Record the figures of a step."""
        self._history.record_step(
            step,
            (
                result.loss,
                result.data_loss,
                result.penalty,
                *self._tallies.values(np.array(result.sums), result.rows).values(),
                result.active_fraction,
                result.gradient_norm,
            ),
        )
        self._means.add(result)

    def record_epoch(self, metrics: Mapping[str, float]) -> None:
        """Record metrics after the last step, which ended an epoch, and the means of its steps."""
        self._history.record_epoch({**metrics, **self._means.take()})

    @property
    def epoch_sums(self) -> Sequence[float] | None:
        """The sums over the steps of the epoch so far, for a checkpoint."""
        return self._means.sums

    def visit_milestone(self, step: int, parameters: Vector) -> None:
        """Record the digest of the parameters after a step, if it is a milestone."""
        self._milestones.visit(step, parameters, last=step == self._history.last_step)

    def milestones(self) -> dict[int, str]:
        """The digests of all milestones so far, by step, for a checkpoint."""
        return self._milestones.settle()

    def set_last_step(self, step: int) -> None:
        """Note that training ends early after a step, the points of which are then reported in any case."""
        self._history.last_step = step

    def report_if_due(self, step: int) -> None:
        """Report what was recorded up to a step, unless the last report was a moment ago."""
        if time.monotonic() - self._reported_at > REPORT_INTERVAL:
            self.report(step)

    def report(self, step: int) -> None:
        """Report what was recorded up to a step."""
        self._reported_at = time.monotonic()
        self._report_progress(step, self._history.unreported())

    def _report_progress(self, step: int, series: Mapping[str, Series]) -> None:
        self._report(Progress(step // self._steps_per_epoch, step, series, self._milestones.unreported()))

    def report_evaluation(self, step: int, metrics: Mapping[str, float], details: Mapping[str, Any]) -> None:
        """Report the metrics of the parameters that are kept, those after a step."""
        self._report(Evaluated(step, step // self._steps_per_epoch, metrics, details))

    def write_checkpoint(self, snapshot: Snapshot) -> None:
        """Begin to write a checkpoint, while training continues."""
        self._writer.write(snapshot, self._history.unkept())

    def write_last_checkpoint(self, snapshot: Snapshot) -> None:
        """Report what was recorded, and write a checkpoint; raises OSError if it cannot be written."""
        self.report(snapshot.step)
        self._writer.write_last(snapshot, self._history.unkept())

    def close(self) -> None:
        """Wait for the checkpoint that is being written. Its error is raised here."""
        self._milestones.close()
        self._writer.close()
