"""What a supervisor tells the control plane, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Series:
    """Points of one metric: steps int64, values float64, and when each was computed, in ms since 1970, int64."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.int64]


@dataclass(frozen=True)
class Started:
    """Workers train, from step `step` on: 0 at the beginning, else that of the checkpoint from which they go on.

    `changed` says what of the fingerprint differs from the checkpoint's: the last bits may then differ, too.
    """

    step: int
    workers: int
    fingerprint: Mapping[str, str]
    changed: Mapping[str, str]


@dataclass(frozen=True)
class Progress:
    """The job has done `step` steps and `epoch` whole epochs; new points of its metrics, by name."""

    epoch: int
    step: int
    series: Mapping[str, Series]


@dataclass(frozen=True)
class Checkpointed:
    """A checkpoint of these parameters is on disk."""

    step: int
    params_sha256: str


@dataclass(frozen=True)
class Restarted:
    """The workers were lost and new ones are started, which go on from the last checkpoint.

    `reason` is a word for programs, `message` a sentence for people.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Noted:
    """Something that people should be able to read later: `kind` is a word for programs, `data` fits into JSON."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The attempt is over: `outcome` is succeeded, cancelled, paused or failed, or lost where a new one may go better.

    `reason` is a word for programs, `message` a sentence for people.
    """

    outcome: str
    reason: str
    message: str = ""


Event = Started | Progress | Checkpointed | Restarted | Noted | Ended
