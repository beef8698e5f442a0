"""Settings of the service, from environment variables such as `GRADFLEET_DATA_DIR`."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from service.addresses import host_and_port, is_loopback
from workers.job.checks.model import Limits
from workers.machine.arithmetic import Arithmetic

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "GRADFLEET_"
# Variables with this prefix that are not settings of the service: options of the command line, those of
# docker-compose.yml, and those of the tests.
OTHERS = {"GRADFLEET_PORT", "GRADFLEET_TOKEN", "GRADFLEET_URL", "GRADFLEET_DATABASE_PASSWORD", "GRADFLEET_VERSION"}
TESTS = ("GRADFLEET_TEST_", "GRADFLEET_CHAOS_", "GRADFLEET_FUZZ_")
DRIVERS = {"sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"}


class Settings(BaseSettings):
    """Paths, addresses and limits of the service."""

    # An empty variable is one that Compose passes on without a value.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False
    )

    data_dir: Path = Field(
        Path("gradfleet-data"), description="Directory of the database, datasets, results and uploads."
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on; tokens are required on any but a loopback address."
    )
    require_token: bool = Field(False, description="Whether a token is required on a loopback address as well.")
    allowed_hosts: list[str] = Field(
        [], description="Additional host names that requests may use where no token is required."
    )
    # Both may contain a password.
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; default: SQLite in data_dir.")
    mlflow_url: SecretStr | None = Field(
        None, description="MLflow server to which jobs are exported; default: no export."
    )
    mlflow_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret by which an MLflow server of `--app-name gradfleet` knows the export; `gradfleet up` "
        "makes one at each start.",
    )
    # Read by `gradfleet migrate` only.
    admin_token: SecretStr | None = Field(
        None, description="Token that `gradfleet migrate` stores with the role admin."
    )
    metrics_token: SecretStr | None = Field(
        None, description="Token that `gradfleet migrate` stores with the role read."
    )
    ray_address: str = Field(
        "127.0.0.1:6379",
        description="Head of the Ray cluster that `gradfleet serve` connects to; host:port.",
    )
    mlflow_public_url: str | None = Field(None, description="Address of MLflow for browsers; default: mlflow_url.")
    data_roots: list[Path] | None = Field(
        None, description="Directories from which datasets may be registered; default: uploads in data_dir."
    )
    allowed_uris: list[str] = Field(
        [], description="Prefixes of addresses from which datasets may be registered, such as s3://bucket/folder."
    )
    max_upload_bytes: int = Field(4 * 1024**3, gt=0, description="Maximum size of an uploaded file.")
    max_uploads: int = Field(16, ge=1, description="Maximum number of files that a process receives at a time.")
    max_upload_seconds: float = Field(3600, gt=0, description="Maximum time in which an uploaded file must arrive.")
    max_dataset_bytes: int = Field(
        64 * 1024**3, gt=0, description="Maximum size of a dataset, and of its unpacked files."
    )
    max_registration_memory_bytes: int = Field(
        1024**3, ge=256 * 1024**2, description="Maximum memory for reading the files of one dataset."
    )
    max_registration_seconds: float = Field(
        1800, gt=0, description="Maximum time for copying or reading the files of one dataset."
    )
    cluster_cpus: int | None = Field(
        None,
        gt=0,
        description="CPUs of the cluster that `gradfleet up` starts; a job that needs more is rejected.",
    )
    cluster_gpus: int | None = Field(
        None,
        ge=0,
        description="GPUs of the cluster that `gradfleet up` starts; default: those that Ray finds, and none with "
        "`gradfleet serve`. A job that needs more is rejected.",
    )
    arithmetic: Arithmetic | None = Field(
        None,
        description="Level of arithmetic of jobs that name none, and the highest one that `gradfleet up` offers; "
        "default: the highest that all nodes have.",
    )
    max_running_jobs: int | None = Field(
        None, gt=0, description="Maximum number of running jobs; default: as many as the cluster has resources for."
    )
    max_queued_jobs: int = Field(
        10_000, gt=0, description="Maximum number of queued jobs; a job or a sweep beyond it is rejected with 429."
    )
    max_event_streams: int = Field(500, ge=0, description="Maximum number of open event streams per process.")
    max_connections: int = Field(
        2000, ge=1, description="Maximum number of open connections per process; fewer if it may not open enough files."
    )
    max_body_bytes: int = Field(1024 * 1024, gt=0, description="Maximum size of a request's body.")
    max_body_seconds: float = Field(30, gt=0, description="Maximum time in which the body of a request must arrive.")
    max_parameters: int = Field(Limits.parameters, gt=0, description="Maximum number of trained parameters of a job.")
    max_batch_bytes: int = Field(
        Limits.batch_bytes, gt=0, description="Maximum memory of the values of all layers of a job for one batch."
    )
    max_worker_bytes: int | None = Field(
        None,
        gt=0,
        description="Maximum memory of the arrays of a worker on CPUs; default: that of the machine with "
        "`gradfleet up`, and no limit with `gradfleet serve`.",
    )
    requests_per_second: float = Field(
        100,
        ge=1,
        description="Maximum average number of requests per token, where tokens are required.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_parsed(cls, url: SecretStr | None) -> SecretStr | None:
        try:
            location = make_url(url.get_secret_value() if url else "sqlite:///gradfleet.db")
        except (ArgumentError, ValueError):
            # The original message quotes the port's place in the URL, which may hold a part of the password.
            raise ValueError(
                "is not a URL such as postgresql+psycopg://user:password@host:5432/name; in a password, @ is "
                "written as %40, : as %3A and / as %2F"
            ) from None
        if location.drivername not in DRIVERS or location.database in {None, "", ":memory:"}:
            raise ValueError("must begin with postgresql:// or sqlite:/// and name a database; in memory is not enough")
        return url

    @field_validator("data_roots")
    @classmethod
    def _are_resolved(cls, roots: list[Path] | None) -> list[Path] | None:
        # Links that the operator gives are followed now; a root that is replaced by one later is not.
        return roots and [Path(os.path.realpath(root)) for root in roots]

    @field_validator("ray_address")
    @classmethod
    def _has_port(cls, address: str) -> str:
        host_and_port(address)
        return address

    @property
    def requires_token(self) -> bool:
        """Whether requests need a token. By default, requests on a loopback address need no authentication."""
        return self.require_token or not is_loopback(self.host)

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the store."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        path = (self.data_dir / "gradfleet.db").absolute()
        return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)

    @property
    def dataset_dir(self) -> Path:
        """Directory of the Arrow files of registered datasets."""
        return self.data_dir / "datasets"

    def dataset_file(self, digest: str) -> Path:
        """Arrow file of the content with a digest. The database has no paths, so that this directory can be moved."""
        return self.dataset_dir / f"{digest}.arrow"

    @property
    def allowed_roots(self) -> list[Path]:
        """Directories from which datasets may be registered."""
        return [self.data_dir / "uploads"] if self.data_roots is None else self.data_roots

    @property
    def limits(self) -> Limits:
        """Limits on the size of a job."""
        return Limits(self.max_parameters, self.max_batch_bytes, self.max_worker_bytes)

    @property
    def mlflow_link(self) -> str | None:
        """Base of links to MLflow's pages, without credentials."""
        url = self.mlflow_public_url or (self.mlflow_url and self.mlflow_url.get_secret_value())
        if not url:
            return None
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")

    def job_dir(self, job_id: str) -> Path:
        """Directory of a job's checkpoints and results."""
        return self.data_dir / "jobs" / job_id

    def sweep_dir(self, sweep_id: str) -> Path:
        """Directory of a sweep's picture."""
        return self.data_dir / "sweeps" / sweep_id


def unknown_variables(names: Iterable[str]) -> list[str]:
    """A message for each variable with the service's prefix that has no meaning, with the nearest one that has."""
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields} | OTHERS
    given = sorted(name for name in names if name.upper().startswith(PREFIX) and not name.upper().startswith(TESTS))
    return [f"there is no setting {name}{_hint(name, known)}" for name in given if name.upper() not in known]


def _hint(name: str, known: set[str]) -> str:
    endings = [each.removeprefix(PREFIX) for each in known]
    near = get_close_matches(name.upper().removeprefix(PREFIX), endings, n=1)
    return f"; did you mean {PREFIX}{near[0]}?" if near else ""
