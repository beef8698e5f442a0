"""Jobs that verify a certificate: they train its job again, and what they compute is compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from service.datasets.repository import find_content
from service.errors import InvalidError
from service.http.field_errors import document_problems
from service.jobs.certificates.comparison import differences, first_milestone, own_differences
from service.jobs.certificates.document import Certificate, as_json
from service.jobs.certificates.issue import fingerprint_of, results_of
from service.jobs.certificates.milestones import read_milestones
from service.jobs.certificates.signing import is_valid, public_key_of, signing_key
from service.jobs.certificates.views import DifferenceView
from service.jobs.schemas import JobRequest
from service.jobs.series.points import EXEMPT_PREFIX
from service.store.models import Job, Metric, Verification
from workers.job.checks.problems import FieldProblem
from workers.machine.fingerprint import differences as changes

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from service.jobs.certificates.views import SampleView
    from service.settings import Settings
    from service.store import Transactions

EXPERIMENT = "verifications"
LABEL = "verifies"  # of such a job; the value is the id of the certified job


def request_of(certificate: Certificate, resources: dict[str, int], database: Transactions) -> JobRequest:
    """The job that runs a certificate's job again, on the dataset here that has its content.

    Raises InvalidError if there is no such dataset, or the spec is not one.
    """
    spec = certificate.spec
    if not isinstance(spec.get("data"), dict) or not isinstance(spec.get("checkpoints", {}), dict):
        raise InvalidError(FieldProblem("spec", "must be a job's spec: data and checkpoints must be objects"))
    if "resources" in spec:
        raise InvalidError(FieldProblem("spec.resources", "is not part of a certificate: no result depends on it"))
    wanted = certificate.dataset
    with database.reading() as session:
        dataset = find_content(session, wanted.digest)
        if dataset is None:
            raise InvalidError(
                FieldProblem(
                    "dataset.digest",
                    f"no dataset here has the content {wanted.digest}: register the data that the job was trained on, "
                    f"{wanted.name!r} with {wanted.rows:,} rows",
                )
            )
        if dataset.rows != wanted.rows:
            raise InvalidError(
                FieldProblem(
                    "dataset.rows", f"is {wanted.rows}, but the data with this digest have {dataset.rows} rows"
                )
            )
        reference = f"{dataset.name}@{dataset.version}"
    best = spec.get("checkpoints", {}).get("best")
    document = {
        **spec,
        "experiment": EXPERIMENT,
        "data": {**spec["data"], "dataset": reference},
        "resources": resources | {"gpus_per_worker": int(certificate.device == "gpu")},
        "checkpoints": {} if best is None else {"best": best},
        "registered_model_name": None,
        "labels": {LABEL: certificate.job.id},
    }
    try:
        return JobRequest.model_validate(document)
    except ValidationError as error:
        problems = document_problems(error, document, JobRequest)
        raise InvalidError(*(FieldProblem(f"spec.{each.field}", each.message) for each in problems)) from None


def begin(
    session: Session, job_id: str, certificate: Certificate, settings: Settings, sample: SampleView | None
) -> None:
    """Record that a new job verifies a certificate, with what is wrong with the certificate itself.

    With `sample`, it replays only these intervals.
    """
    signed_by = certificate.signature.public_key
    notes = []
    if is_valid(certificate.signature, certificate.root):
        known = public_key_of(signing_key(settings.data_dir)) == signed_by
        notes.append(f"signed by {'this service' if known else 'another service'}, with the public key {signed_by}")
    if sample is not None:
        notes.append("the metrics are not compared: a sample has the states at its ends, and the milestones between")
    wrong = own_differences(certificate)
    session.add(
        Verification(
            job_id=job_id,
            certificate=as_json(certificate),
            equal=False if wrong else None,
            differences=[each.model_dump() for each in wrong],
            notes=notes,
            sample=sample and sample.model_dump(round_trip=True),
        )
    )
    session.flush()


def check_milestones(session: Session, job_id: str) -> None:
    """Compare the milestones that a job has passed with the certificate that it verifies, if it verifies one."""
    row = session.get(Verification, job_id)
    if row is None or row.sample is not None or any(each["field"] == "milestones" for each in row.differences):
        return
    certificate = Certificate.model_validate(row.certificate)
    found = first_milestone(certificate, read_milestones(session, job_id))
    if found is not None:
        located = with_step(session, job_id, certificate, found)
        # A change of the parameters after the milestone's step is not in a metric before the next step.
        _write(row, [*own_differences(certificate), found if located.first_step is None else located])


def conclude(session: Session, job_id: str) -> None:
    """Compare all results of a job that has succeeded with the certificate that it verifies, if it verifies one."""
    row = session.get(Verification, job_id)
    if row is None or row.sample is not None:
        return
    certificate = Certificate.model_validate(row.certificate)
    results = results_of(session, session.get_one(Job, job_id, populate_existing=True))
    found = [with_step(session, job_id, certificate, each) for each in differences(certificate, results)]
    row.notes = [*row.notes, *changed_versions(session, job_id, certificate)]
    _write(row, [*own_differences(certificate), *found])


def changed_versions(session: Session, job_id: str, certificate: Certificate) -> list[str]:
    """Notes on the versions and kernels of a job's machines that are not those of the certificate."""
    changed = changes(certificate.fingerprint, fingerprint_of(session, job_id))
    return [f"{name} changed: {change}" for name, change in changed.items()]


def _write(row: Verification, found: list[DifferenceView]) -> None:
    row.differences, row.equal = [each.model_dump() for each in found], not found


def with_step(
    session: Session, job_id: str, certificate: Certificate, found: DifferenceView, after: int = 0
) -> DifferenceView:
    """The difference with the first step after `after` whose metrics differ from the certified job's, if it is here."""
    if found.by_step is None or session.get(Job, certificate.job.id) is None:
        return found
    of = certificate.job.id
    step = _first_differing_step(session, of, job_id, after)
    if step is None:
        said = f"the recorded metrics of {of} are the same: probably the certificate was changed, and not the run"
    else:
        said = f"the first recorded metric that differs from those of {of} is of step {step}"
    return found.model_copy(update={"first_step": step, "message": f"{found.message}; {said}"})


def _first_differing_step(session: Session, one: str, other: str, after: int) -> int | None:
    """The first step after `after` at which a metric of two jobs differs, among those that both have."""
    first, second = aliased(Metric), aliased(Metric)
    query = (
        select(func.min(first.step))
        .join(second, (second.job_id == other) & (second.name == first.name) & (second.step == first.step))
        .where(first.job_id == one, first.step > after, ~first.name.startswith(EXEMPT_PREFIX))
        .where(first.value.is_distinct_from(second.value))
    )
    return session.scalar(query)
