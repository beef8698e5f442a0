"""A certificate as JSON, and the one hash over it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from service.jobs.schemas import JobId
from workers.job.fields import StrictModel

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=200)]
Key = Annotated[str, Field(pattern="^[ -~]{1,200}$")]
Version = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, lt=2**63)]

FORMAT = 1
NOT_HASHED = ("root", "signature")


class CertifiedJob(StrictModel):
    """The job that was certified."""

    id: JobId
    name: Text


class CertifiedDataset(StrictModel):
    """The data that a job was trained on; `digest` is the SHA-256 of the content."""

    name: Text
    digest: Sha256
    rows: Count


class Milestone(StrictModel):
    """SHA-256 over the parameters' little-endian float32 bytes, in order of name, after a step."""

    step: Count
    params_sha256: Sha256


class CertifiedCheckpoint(StrictModel):
    """SHA-256 of the whole state of training in a checkpoint, that of the optimizer included."""

    step: Count
    state_sha256: Sha256


class SeriesDigest(StrictModel):
    """A series: its number of points, the SHA-256 over them, and its last value (null if it is not finite)."""

    points: Count
    sha256: Sha256
    last: float | None


class Signature(StrictModel):
    """An Ed25519 signature over the 64 characters of the root hash; key and signature are hexadecimal."""

    algorithm: Literal["Ed25519"]
    public_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    value: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


class Results(StrictModel):
    """What a run of a job computed; a run of the same job anywhere computes the same."""

    milestones: list[Milestone] = Field(
        max_length=100, description="Digests of the parameters; the steps follow from the length of the job."
    )
    series: dict[Key, SeriesDigest] = Field(max_length=500, description="By name, without those that measure time.")
    params_sha256: Sha256 = Field(description="Digest of the parameters at the end.")


class Certificate(Results):
    """What was trained, on what, and what came out of it, signed over one hash."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    job: CertifiedJob
    spec: dict[str, Any] = Field(description="The resolved spec, without `resources`.")
    spec_sha256: Sha256 = Field(description="SHA-256 over the canonical JSON of `spec`.")
    dataset: CertifiedDataset
    device: Literal["cpu", "gpu"]
    arithmetic: Text | None = Field(description="The level of arithmetic.")
    checkpoints: list[CertifiedCheckpoint] = Field(
        [],
        max_length=1000,
        description="The checkpoints that the job has kept, from which intervals can be replayed. The first "
        "certificates do not have this field.",
    )
    fingerprint: dict[Key, Version] = Field(
        max_length=100, description="Versions of the libraries, and the CPU's kernels."
    )
    root: Sha256 = Field(description="SHA-256 over the canonical JSON of everything but `root` and `signature`.")
    signature: Signature


def sha256_of(document: Any) -> str:
    """SHA-256 (hexadecimal) over a document's canonical JSON: keys in order, no spaces, ASCII, Python's numbers."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def as_json(certificate: Certificate) -> dict[str, Any]:
    """A certificate as it was given: fields that it does not have are not in its hash."""
    return certificate.model_dump(mode="json", exclude_unset=True)


def as_file(certificate: Certificate) -> bytes:
    """A certificate as the content of a JSON file."""
    return (json.dumps(as_json(certificate), indent=2) + "\n").encode()


def root_of(certificate: dict[str, Any]) -> str:
    """The root hash of a certificate as JSON."""
    return sha256_of({name: value for name, value in certificate.items() if name not in NOT_HASHED})
