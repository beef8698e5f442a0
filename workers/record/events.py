"""Events that a supervisor sends to the control plane, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Reasons why attempts end, on which the control plane acts.
REACHED_STEP = "reached_step"
CHECKPOINT_CHANGED = "checkpoint_changed"


@dataclass(frozen=True)
class Series:
    """Points of one metric: steps int64, values float64, and when each was computed, in ms since 1970, int64."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.int64]


@dataclass(frozen=True)
class Started:
    """Workers train from step `step` on: 0 at the beginning, else the step of the checkpoint that they continue from.

    `changed` holds the differences between the fingerprint and the checkpoint's; the last bits may then differ too.
    """

    step: int
    workers: int
    fingerprint: Mapping[str, str]
    changed: Mapping[str, str]


@dataclass(frozen=True)
class Progress:
    """The job has completed `step` steps and `epoch` epochs.

    `series` has the new points of its metrics, by name, and `milestones` new digests of its parameters, by step.
    """

    epoch: int
    step: int
    series: Mapping[str, Series]
    milestones: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpointed:
    """A checkpoint with these parameters is on disk; `state_sha256` is the digest of the whole state."""

    step: int
    params_sha256: str
    state_sha256: str | None = None


@dataclass(frozen=True)
class Evaluated:
    """The metrics of the parameters that are kept, those after `step` and `epoch`, on all validation rows.

    `details` is JSON with more than one number, such as the confusion counts.
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Restarted:
    """The workers were lost and new ones are started, which continue from the last checkpoint.

    `reason` is an identifier for programs, `message` a sentence for people.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Waiting:
    """Workers cannot start yet; `reason` says what they wait for, as an identifier and a sentence."""

    reason: str


@dataclass(frozen=True)
class Noted:
    """An event that is kept for people to read: `kind` is an identifier for programs, `data` is JSON."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The attempt is over: `outcome` is succeeded, cancelled, paused, failed, or lost if a new attempt may succeed.

    `reason` is an identifier for programs, `message` a sentence for people.
    """

    outcome: str
    reason: str
    message: str = ""


Event = Started | Progress | Checkpointed | Evaluated | Restarted | Waiting | Noted | Ended
