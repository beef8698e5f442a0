"""The training loop of one worker. All workers of an attempt run it in step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from core import ParameterLayout, build_classifier, initialize, with_loss
from workers.batches import Batch, Batches, Standardization
from workers.checkpoint import Position, write_checkpoint
from workers.dataset import DatasetInfo, open_dataset
from workers.evaluation import DistributedEvaluation
from workers.events import Checkpointed, Event, Progress
from workers.exchange import Exchange, Membership
from workers.fingerprint import fingerprint
from workers.history import History
from workers.model import clipping_of, layers_of, loss_of, optimizer_of, penalty_of
from workers.spec import JobSpec
from workers.splitting import batches_of, epoch_order, split
from workers.step import DistributedStep, StepResult

REPORT_INTERVAL = 0.2  # seconds
ADVICE = "a smaller learning rate, or features on a smaller scale, may help"


class PoisonedStepError(ArithmeticError):
    """A step's loss is not a finite number, and so neither are the parameters after it."""


@dataclass(frozen=True)
class Assignment:
    """What the workers of an attempt are to do: a resolved spec as JSON, its data, and where the checkpoint goes."""

    job: str
    attempt: int
    spec: Mapping[str, Any]
    dataset: DatasetInfo
    standardization: Standardization | None
    directory: Path


class Trainer:
    """Trains an assignment together with the attempt's other workers.

    The worker of rank 0 calls `report` with the attempt's events, and `stop_requested` once a step: when it answers
    true, all workers stop after that step.
    Raises `DatasetError` when the data can not be opened.
    """

    def __init__(
        self,
        assignment: Assignment,
        membership: Membership,
        exchange: Exchange,
        *,
        report: Callable[[Event], None],
        stop_requested: Callable[[], bool],
    ) -> None:
        spec, dataset = JobSpec.model_validate(assignment.spec), assignment.dataset
        if spec.training.shards is None:
            raise ValueError("training.shards is not set: the spec must be resolved before it is trained")
        self._assignment, self._training, self._exchange = assignment, spec.training, exchange
        self._report, self._stop_requested = report, stop_requested
        self._leads = membership.rank == 0
        self._history = History()
        self._reported = time.monotonic()

        self._batches = Batches(*open_dataset(dataset), assignment.standardization)
        self._rows, validation = split(dataset.rows, spec.data.validation, spec.training.seed)
        sizes = [len(batch) for batch in batches_of(self._rows, spec.training.batch_size)]
        self._steps_per_epoch = len(sizes)

        graph = with_loss(build_classifier(layers_of(spec), dataset.features), loss_of(spec))
        self._layout = ParameterLayout(graph.parameters())
        self._parameters = initialize(self._layout, spec.training.seed)
        self._optimizer = optimizer_of(spec)
        shards, threads = spec.training.shards, spec.resources.cpus_per_worker
        self._step = DistributedStep(
            graph,
            self._layout,
            self._parameters,
            optimizer=self._optimizer,
            penalty=penalty_of(spec),
            clipping=clipping_of(spec),
            seed=spec.training.seed,
            exchange=exchange,
            membership=membership,
            shards=shards,
            batch_sizes=set(sizes),
            threads=threads,
        )
        self._evaluation = DistributedEvaluation(
            graph,
            self._layout,
            self._parameters,
            rows=validation,
            exchange=exchange,
            membership=membership,
            shards=shards,
            threads=threads,
        )

    def run(self) -> bool:
        """Train to the end and write the final checkpoint; False when stopped before the end.

        Raises `PoisonedStepError` and `PeerSilentError`.
        """
        with ExitStack() as stack:
            # BLAS gives other bits with more threads: threads here are whole shards.
            stack.enter_context(threadpool_limits(1))
            stack.enter_context(closing(self._step))
            stack.enter_context(closing(self._evaluation))
            for epoch in range(self._training.epochs):
                if not self._train_epoch(epoch):
                    return False
            self._checkpoint()
        return True

    def _train_epoch(self, epoch: int) -> bool:
        """Train one epoch (from 0) and evaluate after it; False when stopped in it."""
        training = self._training
        order = epoch_order(self._rows, training.seed, epoch)
        step = epoch * self._steps_per_epoch
        total_steps = training.epochs * self._steps_per_epoch
        began = time.monotonic()
        for rows in batches_of(order, training.batch_size):
            rate = self._optimizer.learning_rate(step, total_steps)
            step += 1
            stop = self._leads and self._stop_requested()
            self._record(step, self._step.run(Batch(self._batches, rows, epoch, step), rate, stop=stop))
            if stop or self._exchange.last_step == step:
                self._flush(epoch, step)
                return False
            if time.monotonic() - self._reported > REPORT_INTERVAL:
                self._flush(epoch, step)
        milliseconds = (time.monotonic() - began) * 1000 / self._steps_per_epoch
        metrics = {"weights/norm": self._weight_norm(), "time/step_ms": milliseconds}
        self._history.record(step, metrics | self._evaluation.run(step, self._batches))
        return True

    def _record(self, step: int, result: StepResult) -> None:
        loss = result.data_loss + result.penalty
        if not math.isfinite(loss):
            # The last losses before it show how it came to this.
            self._flush((step - 1) // self._steps_per_epoch, step - 1)
            raise PoisonedStepError(f"the loss became {loss} in step {step}; {ADVICE}")
        self._history.record(
            step,
            {
                "train/loss": loss,
                "train/data_loss": result.data_loss,
                "train/reg_loss": result.penalty,
                "train/accuracy": result.accuracy,
                "train/active_fraction": result.active_fraction,
                "grad/norm": result.gradient_norm,
            },
        )

    def _weight_norm(self) -> float:
        weights = (self._parameters[start:stop] for start, stop in self._layout.penalized)
        return math.sqrt(sum(float(np.vdot(weight, weight)) for weight in weights))

    def _flush(self, epoch: int, step: int) -> None:
        """Report what was recorded; `epoch` counts the whole epochs done."""
        self._reported = time.monotonic()
        series = self._history.take()
        if self._leads:
            self._report(Progress(epoch, step, series))

    def _checkpoint(self) -> None:
        epochs = self._training.epochs
        step = epochs * self._steps_per_epoch
        if not np.isfinite(self._parameters).all():  # the loss of a step is computed before its update
            self._flush(epochs, step)
            raise PoisonedStepError(f"the parameters are no finite numbers after step {step}; {ADVICE}")
        self._step.gather_state(step)
        self._flush(epochs, step)
        if self._leads:
            assignment = self._assignment
            standardization = assignment.standardization
            digest = write_checkpoint(
                assignment.directory,
                Position(assignment.job, assignment.attempt, epochs, step),
                layout=self._layout,
                parameters=self._parameters,
                state=self._step.state,
                inputs=vars(standardization) if standardization else {},
                spec=assignment.spec,
                fingerprint=fingerprint(),
            )
            self._report(Checkpointed(step, digest))
