"""What the workers of an attempt train, and how training ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from core.tables.preparation import Preparation
from workers.data.dataset import DatasetInfo
from workers.data.scaling import Scaling
from workers.record.checkpoint import computation_sha256


class End(Enum):
    """How training ended: after the last epoch, by early stopping, after `until_step`, or by a command to stop."""

    COMPLETED = auto()
    EARLY = auto()
    REACHED = auto()
    STOPPED = auto()


@dataclass(frozen=True)
class Replay:
    """Where an attempt begins that trains an interval of another job again, up to its `until_step`.

    `checkpoint` is one of that job, which is used only if its state has this digest. None: the beginning of the job.
    """

    job: str
    computation_sha256: str
    checkpoint: Path | None = None
    state_sha256: str | None = None


@dataclass(frozen=True)
class Assignment:
    """What the workers of an attempt train.

    `spec` is a resolved spec as JSON, and `directory` the directory of the job. `target_scaling` is the scaling of the
    targets. With `preparation`, columns are prepared, and not scaled. Points up to `reported_step` were
    reported by earlier attempts. Workers may be lost `restarts_left` more times. With `until_step`, the attempt ends
    after that step with a checkpoint, from which another one continues. With `replay`, it begins there, and not at the
    job's own last checkpoint.
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
    target_scaling: Scaling | None = None
    replay: Replay | None = None
    preparation: Preparation | None = None

    @property
    def input_tensors(self) -> dict[str, NDArray[Any]]:
        """The preparation of rows and the scaling of features and targets by name, as checkpoints have it."""
        parts = {"": self.scaling, "target_": self.target_scaling}
        scalings = {
            f"{prefix}{name}": numbers
            for prefix, scaling in parts.items()
            if scaling is not None
            for name, numbers in vars(scaling).items()
        }
        return scalings | (self.preparation.tensors if self.preparation is not None else {})

    @property
    def computation_sha256(self) -> str:
        """SHA-256 of what the bits of the result depend on."""
        return computation_sha256(self.spec, self.dataset.digest)
