"""The training loop of one worker. All workers of an attempt run it in step."""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from core import ParameterLayout, build_classifier, initialize, with_loss
from workers.data.dataset import DatasetInfo, open_dataset
from workers.data.read_ahead import ReadAhead, advise
from workers.data.rows import Batch, Batches
from workers.data.scaling import Scaling
from workers.data.splitting import batches_of, epoch_order
from workers.exchange.zeromq import LEADER, Exchange, Membership, Order
from workers.job.data import augmentations_of, parts_of
from workers.job.spec import JobSpec
from workers.machine.device import HOST, Gpu
from workers.machine.fingerprint import differences, fingerprint
from workers.record.checkpoint import (
    BestSoFar,
    Origin,
    PatienceSoFar,
    Snapshot,
    computation_sha256,
    read_checkpoint,
)
from workers.record.checkpoint_writer import CheckpointWriter, DueDates
from workers.record.events import Event, Progress, Started
from workers.record.history import History, thinned
from workers.record.history_files import read_history
from workers.record.selection import Best, Patience
from workers.training.evaluation import DistributedEvaluation
from workers.training.step import DistributedStep, StepResult

REPORT_INTERVAL = 0.2  # seconds
ADVICE = "a smaller learning rate, or features on a smaller scale, may help"


class PoisonedStepError(ArithmeticError):
    """A step's loss is not a finite number, and so neither are the parameters after it."""


class End(Enum):
    """How training ended: after the last epoch or early, after the step it was assigned, or stopped from outside."""

    COMPLETED = auto()
    EARLY = auto()
    REACHED = auto()
    STOPPED = auto()


@dataclass(frozen=True)
class Assignment:
    """What the workers of an attempt are to do.

    `spec` is a resolved spec as JSON, `directory` the job's. Every point up to `reported_step` is known already, and
    workers may be lost `restarts_left` times more. Where `until_step` is given, the attempt ends after that step, with
    a checkpoint from which another one goes on.
    """

    job: str
    attempt: int
    spec: Mapping[str, Any]
    dataset: DatasetInfo
    scaling: Scaling | None
    directory: Path
    reported_step: int = 0
    restarts_left: int = 0
    until_step: int | None = None

    @property
    def computation(self) -> str:
        """SHA-256 of what the bits of the result depend on."""
        return computation_sha256(self.spec, self.dataset.digest)


class Trainer:
    """Trains an assignment together with the attempt's other workers, from a checkpoint where one is given.

    The worker of rank 0 calls `report` with the attempt's events, from two threads, and `ordered` once a step: what it
    answers is done by all workers after that step.
    Raises `DatasetError` when the data can not be opened, `DeviceError` where a GPU is asked for and there is none, and
    `CheckpointError` when the checkpoint can not be used.
    """

    def __init__(
        self,
        assignment: Assignment,
        membership: Membership,
        exchange: Exchange,
        *,
        checkpoint: Path | None = None,
        report: Callable[[Event], None],
        ordered: Callable[[], Order],
    ) -> None:
        spec, dataset = JobSpec.model_validate(assignment.spec), assignment.dataset
        if spec.training.shards is None:
            raise ValueError("training.shards is not set: the spec must be resolved before it is trained")
        self._assignment, self._training = assignment, spec.training
        self._report, self._ordered = report, ordered
        self._leads = membership.rank == LEADER

        features, labels = open_dataset(dataset)
        self._batches = Batches(features, labels, assignment.scaling, augmentations_of(spec, dataset.shape))
        self._rows, validation = parts_of(spec, dataset, labels)
        self._blocks = spec.data.blocks
        sizes = [len(batch) for batch in batches_of(self._rows, spec.training.batch_size)]
        self._steps_per_epoch = len(sizes)
        self._total_steps = spec.training.epochs * len(sizes)

        graph = with_loss(build_classifier(spec.model.layers, dataset.features), spec.loss)
        self._layout = ParameterLayout(graph.parameters())
        self._optimizer = spec.optimizer
        shards, threads = spec.training.shards, spec.resources.cpus_per_worker
        device = Gpu() if spec.resources.gpus_per_worker else HOST
        self._fingerprint = fingerprint() | device.fingerprint()
        self._step = DistributedStep(
            graph,
            self._layout,
            initialize(self._layout, spec.training.seed),
            optimizer=self._optimizer,
            penalty=spec.regularization.penalty,
            clipping=spec.training.clipping,
            seed=spec.training.seed,
            exchange=exchange,
            membership=membership,
            shards=shards,
            batch_sizes=set(sizes),
            threads=threads,
            device=device,
        )
        self._parameters = self._step.parameters
        self._evaluation = DistributedEvaluation(
            graph,
            self._layout,
            self._parameters,
            rows=validation,
            exchange=exchange,
            membership=membership,
            shards=shards,
            threads=threads,
            device=device,
        )

        stopping = spec.training.early_stopping
        self._patience = Patience(stopping.metric, stopping.patience, stopping.min_delta) if stopping else None
        # Of what is only for the checkpoint the leader keeps track alone.
        tracked = self._leads and len(validation) > 0
        self._best = Best(spec.checkpoints.best, np.zeros_like(self._parameters)) if tracked else None
        self._begun_at, changed = self._go_on_from(checkpoint) if checkpoint else (0, {})
        if self._leads:
            self._started = Started(self._begun_at, membership.workers, self._fingerprint, changed)
            self._history = History(self._begun_at, self._total_steps)
            if self._is_early():
                self._history.last_step = self._begun_at
            self._due_dates = DueDates(spec.checkpoints, self._steps_per_epoch)
            self._writer = CheckpointWriter(
                assignment.directory, self._origin(), self._layout, keep=spec.checkpoints.keep, report=report
            )

    def _origin(self) -> Origin:
        assignment = self._assignment
        return Origin(
            job=assignment.job,
            attempt=assignment.attempt,
            spec=assignment.spec,
            computation=assignment.computation,
            inputs=vars(assignment.scaling) if assignment.scaling else {},
            fingerprint=self._fingerprint,
        )

    def _go_on_from(self, checkpoint: Path) -> tuple[int, dict[str, str]]:
        """Take over a checkpoint's state; give its step, and what of its fingerprint is not this machine's."""
        assignment = self._assignment
        snapshot, taken_on = read_checkpoint(
            checkpoint, assignment.job, assignment.computation, self._layout, self._optimizer.slots
        )
        np.copyto(self._parameters, snapshot.parameters)
        for slot, vector in snapshot.state.items():
            np.copyto(self._step.state[slot], vector)
        if self._best is not None and snapshot.best is not None and snapshot.best.metric == self._best.metric:
            self._best.offer(snapshot.best.value, snapshot.best.step, snapshot.best.parameters)
        if self._patience is not None and snapshot.patience is not None:
            self._patience.value = snapshot.patience.value
            self._patience.stale_epochs = snapshot.patience.stale_epochs
        return snapshot.step, differences(taken_on, self._fingerprint)

    def run(self) -> End:
        """Train to the end, or until it is ordered to stop.

        Raises `PoisonedStepError`, `PeerSilentError`, and OSError when the last checkpoint can not be written.
        """
        with ExitStack() as stack:
            # BLAS gives other bits with more threads: threads here are whole shards.
            stack.enter_context(threadpool_limits(1))
            stack.enter_context(closing(self._step))
            stack.enter_context(closing(self._evaluation))
            if self._leads:
                stack.enter_context(closing(self._writer))
                self._report(self._started)
                self._report_what_was_not()
            end = self._train()
            if end is not End.STOPPED:
                self._checkpoint(last=True)
        return end

    def _report_what_was_not(self) -> None:
        """Report the points before the checkpoint that whoever listened has not heard."""
        table = read_history(self._assignment.directory, after=self._assignment.reported_step, upto=self._begun_at)
        if table.num_rows:
            series = thinned(table, self._history.stride, self._history.last_step)
            self._report(Progress(self._begun_at // self._steps_per_epoch, self._begun_at, series))
        self._reported_at = -math.inf  # the first loss is reported at once

    def _train(self) -> End:
        training = self._training
        self._done = self._begun_at
        if (end := self._end()) is not None:
            return end
        for epoch in range(self._done // self._steps_per_epoch, training.epochs):
            self._epoch_began = time.monotonic(), self._step.exchange_seconds, self._done
            visited = epoch_order(self._rows, training.seed, epoch, self._blocks)
            read_ahead = ReadAhead(self._batches.features, visited, self._blocks) if self._blocks else None
            batches = batches_of(visited, training.batch_size)
            first = self._done % self._steps_per_epoch
            for number, rows in enumerate(batches[first:], first):
                if read_ahead is not None:
                    read_ahead.visit(number * training.batch_size)
                order = self._train_on(rows, epoch)
                if (end := self._end()) is not None:
                    return end
                if Order.CHECKPOINT in order:
                    self._checkpoint(last=Order.STOP in order)
                if Order.STOP in order:
                    self._flush()
                    return End.STOPPED
        return End.COMPLETED

    def _end(self) -> End | None:
        """Whether the steps that are done were the last ones, and why."""
        until = self._assignment.until_step
        if self._done == self._total_steps:
            return End.COMPLETED
        if self._is_early():
            return End.EARLY
        if until is not None and self._done >= until:
            return End.REACHED
        return None

    def _is_early(self) -> bool:
        return self._patience is not None and self._patience.exhausted

    def _train_on(self, rows: NDArray[np.int64], epoch: int) -> Order:
        """Train on one batch, and evaluate where it is the epoch's last; give what was ordered for after it."""
        rate = self._optimizer.learning_rate(self._done, self._total_steps)
        step = self._done + 1
        order = Order.NONE
        if self._leads:
            order = self._ordered()
            if self._due_dates.due(step):
                order |= Order.CHECKPOINT
        result = self._step.run(Batch(self._batches, rows, epoch, step), rate, order=order)
        self._record(step, result)
        self._done = step
        if step % self._steps_per_epoch == 0:
            self._end_epoch()
        if self._leads and time.monotonic() - self._reported_at > REPORT_INTERVAL:
            self._flush()
        return result.order

    def _record(self, step: int, result: StepResult) -> None:
        loss = result.data_loss + result.penalty
        if not math.isfinite(loss):
            # The last losses before it show how it came to this.
            self._flush()
            raise PoisonedStepError(f"the loss became {loss} in step {step}; {ADVICE}")
        if self._leads:
            self._history.record_step(
                step,
                (
                    loss,
                    result.data_loss,
                    result.penalty,
                    result.accuracy,
                    result.active_fraction,
                    result.gradient_norm,
                ),
            )

    def _end_epoch(self) -> None:
        began, exchanged, done = self._epoch_began
        if self._blocks:
            advise(self._batches.features, mmap.MADV_NORMAL)  # rows for validation are visited in the file's order
        metrics = self._evaluation.run(self._done, self._batches)
        if self._best is not None:
            self._best.offer(metrics[self._best.metric], self._done, self._parameters)
        if self._patience is not None:
            self._patience.offer(metrics[self._patience.metric])
        if self._leads:
            if self._is_early():
                self._history.last_step = self._done
            steps = self._done - done
            self._history.record_epoch(
                {
                    **metrics,
                    "weights/norm": self._weight_norm(),
                    "time/step_ms": (time.monotonic() - began) * 1000 / steps,
                    "time/exchange_ms": (self._step.exchange_seconds - exchanged) * 1000 / steps,
                }
            )

    def _weight_norm(self) -> float:
        weights = (self._parameters[start:stop] for start, stop in self._layout.penalized)
        return math.sqrt(sum(float(np.vdot(weight, weight)) for weight in weights))

    def _flush(self) -> None:
        """Report what was recorded."""
        if self._leads:
            self._reported_at = time.monotonic()
            self._report(Progress(self._done // self._steps_per_epoch, self._done, self._history.unreported()))

    def _checkpoint(self, *, last: bool) -> None:
        """Write a checkpoint: the last one before anything goes on, another one meanwhile."""
        if not np.isfinite(self._parameters).all():  # the loss of a step is computed before its update
            self._flush()
            raise PoisonedStepError(f"the parameters are no finite numbers after step {self._done}; {ADVICE}")
        self._step.gather_state(self._done)
        if not self._leads:
            return
        if last:
            self._flush()
            self._writer.write_last(self._snapshot(), self._history.unkept())
        else:
            self._writer.write(self._snapshot(), self._history.unkept())

    def _snapshot(self) -> Snapshot:
        """A copy of the state: training goes on while it is written."""
        best, patience = self._best, self._patience
        return Snapshot(
            epoch=self._done // self._steps_per_epoch,
            step=self._done,
            parameters=self._parameters.copy(),
            state={slot: vector.copy() for slot, vector in self._step.state.items()},
            best=BestSoFar(best.metric, best.value, best.step, best.parameters.copy())
            if best is not None and best.value is not None
            else None,
            patience=PatienceSoFar(patience.value, patience.stale_epochs) if patience is not None else None,
        )
