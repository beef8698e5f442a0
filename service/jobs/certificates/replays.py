"""Jobs that replay a sample of a certificate's intervals: each attempt trains one, which is then compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.jobs.certificates.comparison import first_milestone
from service.jobs.certificates.document import Certificate
from service.jobs.certificates.milestones import read_milestones, read_states
from service.jobs.certificates.sampling import computation_of, end_of, states_of
from service.jobs.certificates.verification import changed_versions, with_step
from service.jobs.certificates.views import DifferenceView, SampleView
from service.store.models import Job, Verification
from workers.record.checkpoint import place_of
from workers.record.events import CHECKPOINT_CHANGED, REACHED_STEP
from workers.training.assignment import Replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from service.jobs.certificates.views import ReplayView
    from service.settings import Settings
    from workers.record.events import Ended


def next_replay(session: Session, job_id: str, settings: Settings) -> tuple[Replay, int, int] | None:
    """Where the next attempt of a job begins, that step, and the last one; None for a job that replays no intervals."""
    row = session.get(Verification, job_id)
    if row is None or row.sample is None:
        return None
    interval = SampleView.model_validate(row.sample).next
    if interval is None:
        return None
    certificate, after = Certificate.model_validate(row.certificate), interval.after_step
    of, directory = certificate.job.id, settings.job_dir(certificate.job.id).absolute()
    place = place_of(directory, after) if after else None
    begin = Replay(of, computation_of(certificate), place, states_of(certificate).get(after))
    return begin, after, interval.by_step


def judge(session: Session, job_id: str, end: Ended) -> bool:
    """Compare the interval that an attempt has replayed, if it has; returns whether it was the last of the sample.

    An interval whose first state was changed is not replayed, and its job has failed.
    """
    row = session.get(Verification, job_id)
    if row is None or row.sample is None:
        return False
    sample = SampleView.model_validate(row.sample)
    interval = sample.next
    if interval is None or (end.outcome != "succeeded" and end.reason not in {REACHED_STEP, CHECKPOINT_CHANGED}):
        return False
    certificate = Certificate.model_validate(row.certificate)
    found = next(_differences(session, job_id, certificate, interval, end), None)
    if end.reason != CHECKPOINT_CHANGED:
        interval.equal = found is None
        row.sample = sample.model_dump(round_trip=True)
    if found is not None:
        row.differences = [*row.differences, found.model_dump()]
        row.equal = False
    if sample.next is not None:
        return False
    row.equal = not row.differences
    row.notes = [*row.notes, *changed_versions(session, job_id, certificate)]
    return True


def _differences(
    session: Session, job_id: str, certificate: Certificate, interval: ReplayView, end: Ended
) -> Iterator[DifferenceView]:
    after, by = interval.after_step, interval.by_step

    def difference(field: str, message: str) -> DifferenceView:
        return DifferenceView(field=field, message=message, after_step=after, by_step=by)

    if end.reason == CHECKPOINT_CHANGED:
        yield difference(
            "checkpoints",
            f"the steps from {after} to {by} were not replayed, because the checkpoint of step {after} was changed, or "
            f"its digest in the certificate: {end.message}",
        )
        return
    inside = range(after + 1, by + 1)
    digests = {step: digest for step, digest in read_milestones(session, job_id).items() if step in inside}
    milestone = first_milestone(certificate, digests, after)
    if milestone is not None:
        yield with_step(session, job_id, certificate, milestone, after)
    last = session.get_one(Job, job_id, populate_existing=True).step
    if last != by or (end.outcome == "succeeded") != (by == end_of(certificate)):
        what = f"ends after step {last}" if end.outcome == "succeeded" else f"does not end after step {last}"
        yield difference("milestones", f"training {what}, and that of the certificate after step {end_of(certificate)}")
    for each in certificate.milestones:
        if each.step in inside and each.step not in digests:
            yield difference("milestones", f"the milestone of step {each.step} is not one of the job")
    expected = states_of(certificate).get(by)
    if expected is not None and read_states(session, job_id).get(by) != expected:
        yield difference(
            "checkpoints", f"the state after step {by} differs, although that after step {after} is the certified one"
        )
