"""Compares a certificate with itself, and with what another run of its job computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.jobs.certificates.document import as_json, root_of, sha256_of
from service.jobs.certificates.signing import is_valid
from service.jobs.certificates.views import DifferenceView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.jobs.certificates.document import Certificate, Results


def own_differences(certificate: Certificate) -> list[DifferenceView]:
    """Where a certificate does not agree with itself: it was changed after it was made."""
    document = as_json(certificate)
    steps = [each.step for each in certificate.checkpoints]
    last = max(certificate.milestones, key=lambda each: each.step, default=None)
    changed = "the certificate was changed after it was made"
    checks = {
        "root": (certificate.root == root_of(document), f"is not the hash of the other fields: {changed}"),
        "signature": (is_valid(certificate.signature, certificate.root), "is not one of the root hash by its key"),
        "spec_sha256": (certificate.spec_sha256 == sha256_of(certificate.spec), "is not the hash of the spec"),
        "arithmetic": (
            certificate.arithmetic == _level(certificate.spec),
            "is not the level of arithmetic that the spec names",
        ),
        "checkpoints": (steps == sorted(set(steps)), "are not in the order of their steps"),
    }
    if last is not None:
        at_end = last.params_sha256 == certificate.params_sha256
        checks["params_sha256"] = (at_end, f"is not the digest of the last milestone, that of step {last.step}")
        within = all(step <= last.step for step in steps)
        checks["checkpoints.step"] = (within, f"is after the end of training, the last milestone at step {last.step}")
    return [DifferenceView(field=field, message=message) for field, (right, message) in checks.items() if not right]


def first_milestone(certificate: Certificate, digests: Mapping[int, str], after: int = 0) -> DifferenceView | None:
    """The first milestone of a run after a step with another digest than in the certificate; None if there is none."""
    certified, before = {each.step: each.params_sha256 for each in certificate.milestones}, after
    for step, digest in digests.items():
        if certified.get(step) != digest:
            what = (
                f"has another digest: the parameters differ first between steps {before} and {step}"
                if step in certified
                else "is missing in the certificate"
            )
            return DifferenceView(
                field="milestones",
                message=f"the milestone of step {step} {what}",
                after_step=before,
                by_step=step,
            )
        before = step
    return None


def differences(certificate: Certificate, results: Results) -> list[DifferenceView]:
    """All differences between a certificate and the results of a whole run, in the order of training."""
    return list(_differences(certificate, results))


def _differences(certificate: Certificate, results: Results) -> Iterator[DifferenceView]:
    digests = {each.step: each.params_sha256 for each in results.milestones}
    if (first := first_milestone(certificate, digests)) is not None:
        yield first
    elif certificate.milestones != results.milestones:
        yield DifferenceView(field="milestones", message=f"are not those of the job, which has {len(digests)}")
    for name in sorted({*certificate.series, *results.series}):
        one, other = certificate.series.get(name), results.series.get(name)
        if one != other:
            what = "is missing in the certificate" if one is None else "does not exist" if other is None else "differs"
            yield DifferenceView(field=f"series.{name}", message=what)
    if certificate.params_sha256 != results.params_sha256:
        yield DifferenceView(field="params_sha256", message="the parameters at the end differ")


def _level(spec: Mapping[str, object]) -> object:
    training = spec.get("training")
    return training.get("arithmetic") if isinstance(training, dict) else None
