"""Makes the certificate of a job that has succeeded."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select

from service.datasets.repository import located
from service.errors import ConflictError
from service.jobs.certificates.document import FORMAT, Certificate, Milestone, Results, SeriesDigest, root_of, sha256_of
from service.jobs.certificates.milestones import read_milestones, read_states
from service.jobs.certificates.signing import sign, signing_key
from service.jobs.series.points import EXEMPT_PREFIX, read_series
from service.jobs.states import State
from service.store.models import Event, Job, Verification
from service.store.rows import find_or_404
from workers.data.dataset import DatasetError, DatasetInfo, check_dataset
from workers.record.milestones import milestone_steps

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from service.jobs.series.points import Series
    from service.settings import Settings
    from service.store import Transactions


def issue(database: Transactions, settings: Settings, job_id: str) -> Certificate:
    """The certificate of a job.

    Raises NotFoundError if there is no such job, and ConflictError if it has not succeeded, only replays intervals,
    lacks milestones, or its data are no longer those that it was trained on.
    """
    with database.reading() as session:
        job = find_or_404(session, Job, job_id)
        if job.state != State.SUCCEEDED:
            raise ConflictError(
                f"Job {job_id} has no certificate: it is {job.state}, and only a job that has succeeded has one."
            )
        verification = session.get(Verification, job_id)
        if verification is not None and verification.sample is not None:
            raise ConflictError(f"Job {job_id} has no certificate: it has replayed only some intervals of another job.")
        results, fingerprint = results_of(session, job), fingerprint_of(session, job_id)
        states = read_states(session, job_id)
    expected = {step for step in milestone_steps(job.total_steps) if step <= job.step} | {job.step}
    if missing := expected.difference(milestone.step for milestone in results.milestones):
        raise ConflictError(
            f"Job {job_id} has no certificate: the digests of {len(missing)} of its {len(expected)} milestones were "
            f"not recorded, first that of step {min(missing)}."
        )
    try:
        check_dataset(DatasetInfo.from_json(located(job.dataset, settings)))
    except DatasetError as error:
        raise ConflictError(f"The certificate of job {job_id} cannot be made: {error}.") from error
    spec = certified_spec(job.spec)
    content = results.model_dump(mode="json") | {
        "format": FORMAT,
        "job": {"id": job.id, "name": job.name},
        "spec": spec,
        "spec_sha256": sha256_of(spec),
        "dataset": {"name": job.dataset["name"], "digest": job.dataset["digest"], "rows": job.dataset["rows"]},
        "device": "gpu" if job.spec["resources"]["gpus_per_worker"] else "cpu",
        "arithmetic": spec["training"].get("arithmetic"),
        "checkpoints": [{"step": step, "state_sha256": digest} for step, digest in states.items()],
        "fingerprint": fingerprint,
    }
    root = root_of(content)
    signature = sign(root, signing_key(settings.data_dir))
    return Certificate.model_validate(content | {"root": root, "signature": signature.model_dump()})


def certified_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """A job's resolved spec without its resources, on which no result depends."""
    return {name: value for name, value in spec.items() if name != "resources"}


def results_of(session: Session, job: Job) -> Results:
    """What a job computed, as far as it is recorded."""
    milestones = read_milestones(session, job.id)
    series = {
        name: _digest_of(points)
        for name, points in read_series(session, job.id).items()
        if not name.startswith(EXEMPT_PREFIX)
    }
    return Results(
        milestones=[Milestone(step=step, params_sha256=digest) for step, digest in milestones.items()],
        series=series,
        params_sha256=job.params_sha256 or "0" * 64,
    )


def fingerprint_of(session: Session, job_id: str) -> dict[str, str]:
    """The fingerprint of the machines of a job's last attempt; empty before the first."""
    query = select(Event.data).where(Event.job_id == job_id, Event.kind == "training_started")
    data = session.scalar(query.order_by(Event.id.desc()).limit(1))
    return dict(data["fingerprint"]) if data else {}


def _digest_of(series: Series) -> SeriesDigest:
    """The digest over a row of step and value for each point, as little-endian float64."""
    # SQLite stores -0.0 as 0.0 and has no NaN: adding zero and the one NaN of NumPy give the same bits everywhere.
    rows = np.array([series.steps, series.values], "<f8").T + 0.0
    rows[np.isnan(rows)] = np.nan
    last = series.values[-1]
    digest = hashlib.sha256(np.ascontiguousarray(rows, "<f8").tobytes()).hexdigest()
    return SeriesDigest(points=len(rows), sha256=digest, last=last if math.isfinite(last) else None)
