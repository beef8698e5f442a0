"""Chooses which intervals of a certificate's job are replayed.

An interval is between two checkpoints of the certificate: it can be replayed only if its first state is here, and it is
checked as a whole only if the certificate has a digest of its last state. Intervals follow each other without gaps, so
that all of them together are the whole job. The first one begins at step 0, which the seed of the job gives.
"""

from __future__ import annotations

import hashlib
import secrets
from itertools import pairwise
from typing import TYPE_CHECKING

from service.errors import InvalidError
from service.jobs.certificates.views import ReplayView, SampleView
from workers.job.checks.problems import FieldProblem
from workers.record.checkpoint import computation_sha256, place_of

if TYPE_CHECKING:
    from pathlib import Path

    from service.jobs.certificates.document import Certificate

MOST_SEEDS = 2**53  # so that a seed is an exact number in every JSON parser


def draw(certificate: Certificate, directory: Path, count: int, seed: int | None) -> SampleView:
    """Choose at most `count` intervals whose first state is in `directory`, that of the certified job.

    Without `seed` the choice cannot be predicted. Raises InvalidError if the certificate has nothing to replay.
    """
    end = end_of(certificate)
    if not end:
        raise InvalidError(FieldProblem("milestones", "must have at least one: without it there is nothing to replay"))
    computation_of(certificate)
    if seed is None:
        seed = secrets.randbelow(MOST_SEEDS)
    starts = [0, *(step for step in sorted(states_of(certificate)) if 0 < step < end)]
    intervals = list(pairwise([*starts, end]))
    replayable = [each for each in intervals if each[0] == 0 or place_of(directory, each[0]).is_dir()]
    chosen = sorted(sorted(replayable, key=lambda interval: _rank(seed, interval[0]))[:count])
    return SampleView(
        seed=seed,
        chosen=[ReplayView(after_step=after, by_step=by, equal=None) for after, by in chosen],
        intervals=len(intervals),
        replayable=len(replayable),
        total_steps=end,
    )


def _rank(seed: int, after_step: int) -> bytes:
    # Of the library's functions for samples, some choose otherwise in another version of Python.
    return hashlib.sha256(f"{seed} {after_step}".encode()).digest()


def states_of(certificate: Certificate) -> dict[int, str]:
    """The digests of the states in a certificate's checkpoints, by step."""
    return {each.step: each.state_sha256 for each in certificate.checkpoints}


def end_of(certificate: Certificate) -> int:
    """The step after which the training of a certificate's job ended; 0 if it does not say so."""
    return max([0, *(each.step for each in certificate.milestones), *states_of(certificate)])


def computation_of(certificate: Certificate) -> str:
    """The digest of the computation that a certificate's checkpoints have.

    Raises InvalidError if its spec lacks a part.
    """
    spec = certificate.spec | {"resources": {"gpus_per_worker": int(certificate.device == "gpu")}}
    try:
        return computation_sha256(spec, certificate.dataset.digest)
    except KeyError as error:
        raise InvalidError(FieldProblem("spec", f"must be a resolved spec, but has no {error}")) from None
