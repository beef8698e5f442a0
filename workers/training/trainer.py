"""The training loop of one worker. All workers of an attempt run it in step."""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from core.tables.preparation import Preparer
from workers.data.dataset import open_dataset
from workers.data.read_ahead import ReadAhead, advise
from workers.data.rows import Batch, Batches
from workers.data.splitting import Rows, batches_of, epoch_order, steps_per_epoch
from workers.exchange.control import Command
from workers.exchange.messages import Exchange
from workers.job.computation import Computation
from workers.job.data import augmentations_of, split_rows
from workers.job.spec import JobSpec
from workers.machine.arenas import Arenas
from workers.machine.device import HOST, Gpu
from workers.machine.fingerprint import differences, fingerprint
from workers.machine.threads import Threads
from workers.record.checkpoint import CheckpointError, Snapshot, read_checkpoint, state_sha256
from workers.record.events import Event, Started
from workers.record.selection import Best, Patience
from workers.training.advice import advice
from workers.training.assignment import Assignment, End
from workers.training.evaluation import DistributedEvaluation
from workers.training.kept import evaluate_kept
from workers.training.leader import Leader
from workers.training.runtime import Runtime
from workers.training.step import DistributedStep
from workers.training.validation import Validation


class NonFiniteStepError(ArithmeticError):
    """The loss of a step, the norm of its gradient, or the parameters after it are not finite numbers."""


class _EpochStart(NamedTuple):
    """Start of the part of an epoch that this attempt trains."""

    step: int
    time: float
    exchange_seconds: float


class Trainer:
    """Trains an assignment together with the attempt's other workers, from a checkpoint if one is given.

    The leader calls `report` with the attempt's events, from two threads, and `pending_command` once a step: all
    workers do what it returns after that step.
    Raises `DatasetError` if the data cannot be opened, `DeviceError` if a GPU is required and there is none, and
    `CheckpointError` if the checkpoint cannot be used.
    """

    def __init__(
        self,
        assignment: Assignment,
        exchange: Exchange,
        *,
        checkpoint: Path | None = None,
        report: Callable[[Event], None],
        pending_command: Callable[[], Command],
    ) -> None:
        spec, dataset = JobSpec.model_validate(assignment.spec), assignment.dataset
        self._assignment, self._training = assignment, spec.training

        features, truth = open_dataset(dataset)
        augmentations = augmentations_of(spec, dataset.shape)
        preparer = Preparer(assignment.preparation) if assignment.preparation is not None else None
        self._batches = Batches(features, truth, assignment.scaling, augmentations, assignment.target_scaling, preparer)
        self._rows, self._validation_rows = split_rows(spec, dataset, truth)
        self._data, self._chunks = spec.data, spec.data.chunks
        self._steps_per_epoch = steps_per_epoch(len(self._rows), spec.training.batch_size)

        device = Gpu() if spec.resources.gpus_per_worker else HOST
        self._fingerprint = fingerprint() | device.fingerprint()
        self._threads = Threads(spec.resources.cpus_per_worker)
        self._computation = Computation.of(spec, dataset, len(self._rows))
        arenas = Arenas(device, self._computation.largest_program(len(self._validation_rows)).nbytes)
        self._runtime = Runtime(exchange, self._threads, arenas)
        self._step = DistributedStep(self._computation, self._runtime)
        self._parameters = self._step.parameters

        stopping = spec.training.early_stopping
        patience = Patience(stopping.metric, stopping.patience, stopping.min_delta) if stopping else None
        # The best parameters are needed for checkpoints only, which the leader writes.
        tracked = exchange.leads and len(self._validation_rows) > 0
        best = Best(spec.checkpoints.best, np.zeros_like(self._parameters)) if tracked else None
        evaluation = DistributedEvaluation(self._computation, self._runtime, self._parameters, self._validation_rows)
        self._validation = Validation(evaluation, best, patience)

        restored, changed = self._restore(checkpoint) if checkpoint else (None, {})
        self._done = restored.step if restored else 0
        self._leader: Leader | None = None
        if exchange.leads:
            started = Started(self._done, exchange.membership.workers, self._fingerprint, changed)
            self._leader = Leader(
                assignment,
                spec,
                self._computation,
                started,
                steps_per_epoch=self._steps_per_epoch,
                report=report,
                pending_command=pending_command,
            )
            if restored is not None:
                self._leader.continue_from(restored)
            if self._validation.stops_training:
                self._leader.set_last_step(self._done)

    def _restore(self, checkpoint: Path) -> tuple[Snapshot, dict[str, str]]:
        """Restore a checkpoint's state; returns it, and how its fingerprint differs from this machine's."""
        replay, layout = self._assignment.replay, self._computation.layout
        origin = replay or self._assignment
        snapshot, its_fingerprint = read_checkpoint(
            checkpoint, origin.job, origin.computation_sha256, layout, self._computation.optimizer.slots
        )
        if replay is not None:
            if state_sha256(layout, snapshot) != replay.state_sha256:
                raise CheckpointError(f"checkpoint {checkpoint.name} is not the one that was certified")
            snapshot = replace(snapshot, milestones={})  # only what is computed here is reported
        np.copyto(self._parameters, snapshot.parameters)
        for slot, vector in snapshot.state.items():
            np.copyto(self._step.state[slot], vector)
        self._validation.restore(snapshot)
        return snapshot, differences(its_fingerprint, self._fingerprint)

    def run(self) -> End:
        """Train to the end, or until a command to stop.

        Raises `NonFiniteStepError`, `InvalidIndexError`, `PeerSilentError`, and OSError if the last checkpoint cannot
        be written.
        """
        with ExitStack() as stack:
            # BLAS gives other bits with more threads. A thread of ours computes whole shards.
            stack.enter_context(threadpool_limits(1))
            stack.enter_context(closing(self._threads))
            if self._leader is not None:
                stack.enter_context(closing(self._leader))
                self._leader.begin()
            end = self._train()
            if end is not End.STOPPED:
                self._checkpoint(last=True)
            if end in {End.COMPLETED, End.EARLY}:
                self._evaluate_kept()
        return end

    def _train(self) -> End:
        if (end := self._end()) is not None:
            return end
        for epoch in range(self._done // self._steps_per_epoch, self._training.epochs):
            if (end := self._train_epoch(epoch)) is not None:
                return end
        return End.COMPLETED

    def _end(self) -> End | None:
        """Why training ends after the steps that are done; None if it continues."""
        until = self._assignment.until_step
        if self._done == self._training.epochs * self._steps_per_epoch:
            return End.COMPLETED
        if self._validation.stops_training:
            return End.EARLY
        if until is not None and self._done >= until:
            return End.REACHED
        return None

    def _train_epoch(self, epoch: int) -> End | None:
        """Train on the batches of an epoch that are left; returns why training ends, if it does."""
        first, size = self._done % self._steps_per_epoch, self._training.batch_size
        start = _EpochStart(self._done, time.monotonic(), self._step.exchange_seconds)
        order = epoch_order(self._rows, self._training.seed, epoch, self._chunks)
        read_ahead = ReadAhead(self._batches.features, order, self._chunks) if self._chunks else None
        for number, rows in enumerate(batches_of(order, size)[first:], first):
            if read_ahead is not None:
                read_ahead.visit(number * size)
            command = self._train_on(rows, epoch)
            if self._done % self._steps_per_epoch == 0:
                self._end_epoch(start)
            if self._leader is not None:
                self._leader.visit_milestone(self._done, self._parameters)
                self._leader.report_if_due(self._done)
            if (end := self._end()) is not None:
                return end
            if Command.CHECKPOINT in command:
                self._checkpoint(last=Command.STOP in command)
            if Command.STOP in command:
                self._report()
                return End.STOPPED
        return None

    def _train_on(self, rows: Rows, epoch: int) -> Command:
        """Train on one batch; returns the command for after it."""
        step = self._done + 1
        epoch_steps = self._steps_per_epoch
        rate = self._computation.optimizer.learning_rate(self._done, self._training.epochs * epoch_steps, epoch_steps)
        command = self._leader.command(step) if self._leader is not None else Command.NONE
        result = self._step.run(Batch(self._batches, rows, epoch, step), rate, command=command)
        # A norm overflows at about 1.8e19 in float32. Clipping by it would set the gradient to zero.
        for figure, value in (("loss", result.loss), ("norm of the gradient", result.gradient_norm)):
            if not math.isfinite(value):
                self._report()  # the last losses before it show what happened
                raise NonFiniteStepError(f"the {figure} became {value} in step {step}; {self._advice()}")
        if self._leader is not None:
            self._leader.record_step(step, result)
        self._done = step
        return result.command

    def _end_epoch(self, start: _EpochStart) -> None:
        if self._chunks:
            advise(self._batches.features, mmap.MADV_NORMAL)  # validation reads rows in the file's order
        metrics = self._validation.run(self._done, self._batches, self._parameters)
        if self._leader is not None:
            if self._validation.stops_training:
                self._leader.set_last_step(self._done)
            metrics["weights/norm"] = self._weight_norm()
            steps = self._done - start.step
            metrics["time/step_ms"] = (time.monotonic() - start.time) * 1000 / steps
            metrics["time/exchange_ms"] = (self._step.exchange_seconds - start.exchange_seconds) * 1000 / steps
            self._leader.record_epoch(metrics)

    def _weight_norm(self) -> float:
        weights = (self._parameters[start:stop] for start, stop in self._computation.layout.penalized)
        return math.sqrt(sum(float(np.vdot(weight, weight)) for weight in weights))

    def _report(self) -> None:
        if self._leader is not None:
            self._leader.report(self._done)

    def _checkpoint(self, *, last: bool) -> None:
        """Write a checkpoint. Training waits for the last one only."""
        if not np.isfinite(self._parameters).all():  # the loss of a step is computed before its update
            self._report()
            raise NonFiniteStepError(f"the parameters are not finite numbers after step {self._done}; {self._advice()}")
        self._step.gather_state(self._done)
        if self._leader is not None:
            write = self._leader.write_last_checkpoint if last else self._leader.write_checkpoint
            write(self._snapshot(self._leader.milestones()))

    def _evaluate_kept(self) -> None:
        """Report the metrics of the parameters that are kept. The leader does this alone: it has them."""
        if self._leader is not None:
            step, parameters = self._validation.kept(self._done, self._parameters)
            evaluated = evaluate_kept(
                self._computation, self._runtime, parameters, self._batches, self._validation_rows
            )
            self._leader.report_evaluation(step, *evaluated)

    def _advice(self) -> str:
        return advice(self._data, self._computation.metrics.task, self._batches.truth, self._rows)

    def _snapshot(self, milestones: Mapping[int, str]) -> Snapshot:
        """A copy of the state: training changes it while the copy is written."""
        return Snapshot(
            epoch=self._done // self._steps_per_epoch,
            step=self._done,
            parameters=self._parameters.copy(),
            state={slot: vector.copy() for slot, vector in self._step.state.items()},
            best=self._validation.best_so_far(),
            patience=self._validation.patience_so_far(),
            epoch_sums=self._leader.epoch_sums if self._leader is not None else None,
            milestones=milestones,
        )
