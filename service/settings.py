"""Settings of the service, read from the environment (`GRADFLEET_DATA_DIR` and so on)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from service.addresses import is_loopback
from workers.job.resolve import Limits


class Settings(BaseSettings):
    """Where the service keeps its data, what it talks to, and what it accepts."""

    model_config = SettingsConfigDict(env_prefix="GRADFLEET_", extra="ignore", hide_input_in_errors=True)

    data_dir: Path = Field(Path("gradfleet-data"), description="Database, datasets, results and uploads live below it.")
    host: str = Field("127.0.0.1", description="Address to listen on; on any but a loopback one, tokens are required.")
    require_token: bool = Field(False, description="Whether a token is required on a loopback address as well.")
    allowed_hosts: list[str] = Field(
        [], description="Further names of this machine that requests may be for, where no token is required."
    )
    # Both may have a password in them.
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; default: SQLite in data_dir.")
    mlflow_url: SecretStr | None = Field(None, description="MLflow server that gets the runs; without it none is told.")
    # Read by `gradfleet migrate` only.
    admin_token: SecretStr | None = Field(None, description="Token that `gradfleet migrate` lets in as admin.")
    metrics_token: SecretStr | None = Field(None, description="Token that `gradfleet migrate` lets in to read.")
    ray_address: str = Field(
        "127.0.0.1:6379",
        pattern=r"^[^/]+:\d+$",
        description="Head of the Ray cluster that `gradfleet serve` joins; host:port.",
    )
    mlflow_public_url: str | None = Field(None, description="MLflow as a browser reaches it; default: mlflow_url.")
    data_roots: list[Path] | None = Field(
        None, description="Directories from which datasets may be registered; default: uploads in data_dir."
    )
    allowed_uris: list[str] = Field(
        [], description="Beginnings of the addresses from which datasets may be registered, such as s3://bucket/folder."
    )
    max_upload_bytes: int = Field(4 * 1024**3, gt=0, description="Largest file that may be uploaded.")
    max_dataset_bytes: int = Field(
        64 * 1024**3, gt=0, description="Most bytes of one dataset, and most to which its files may be unpacked."
    )
    cluster_cpus: int | None = Field(
        None,
        gt=0,
        description="CPUs of the cluster, which `gradfleet up` starts with as many; a job that needs more is refused.",
    )
    cluster_gpus: int | None = Field(
        None,
        ge=0,
        description="GPUs of the cluster, with which `gradfleet up` starts; default: those that Ray finds there, and "
        "none elsewhere. A job that needs more is refused.",
    )
    max_running_jobs: int | None = Field(
        None, gt=0, description="Most jobs that run at once, however many would fit; default: as many as fit."
    )
    max_event_streams: int = Field(500, ge=0, description="Most live streams of events at once in one process.")
    max_body_bytes: int = Field(1024 * 1024, gt=0, description="Largest body of a request.")
    max_body_seconds: float = Field(30, gt=0, description="Longest time that a request may take to send its body.")
    max_parameters: int = Field(Limits.parameters, gt=0, description="Most numbers that a job may train.")
    max_batch_bytes: int = Field(
        Limits.batch_bytes, gt=0, description="Most memory for the values of all a job's layers for one batch."
    )
    requests_per_second: float = Field(
        100, ge=1, description="Requests that one token may make, where one is required, on average over a second."
    )

    @field_validator("database_url")
    @classmethod
    def _is_parsed(cls, url: SecretStr | None) -> SecretStr | None:
        try:
            make_url(url.get_secret_value() if url else "sqlite://")
        except (ArgumentError, ValueError):
            # What is said there quotes what stands where a port should, which may be a piece of the password.
            raise ValueError(
                "is not a URL such as postgresql+psycopg://user:password@host:5432/name; in a password, @ is "
                "written as %40, : as %3A and / as %2F"
            ) from None
        return url

    @property
    def asks_for_token(self) -> bool:
        """Whether the API answers only to those who have a token."""
        return self.require_token or not is_loopback(self.host)

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the store."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'gradfleet.db').absolute()}"

    @property
    def dataset_dir(self) -> Path:
        """Directory of the registered datasets' Arrow files."""
        return self.data_dir / "datasets"

    @property
    def allowed_roots(self) -> list[Path]:
        """Directories from which datasets may be registered."""
        return [self.data_dir / "uploads"] if self.data_roots is None else self.data_roots

    @property
    def limits(self) -> Limits:
        """What a job may be at most."""
        return Limits(parameters=self.max_parameters, batch_bytes=self.max_batch_bytes)

    @property
    def mlflow_link(self) -> str | None:
        """Base of the links to MLflow's pages, without the credentials that the service itself may use."""
        url = self.mlflow_public_url or (self.mlflow_url and self.mlflow_url.get_secret_value())
        if not url:
            return None
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")

    def job_dir(self, job_id: str) -> Path:
        """Directory of one job's checkpoints and results."""
        return self.data_dir / "jobs" / job_id

    def sweep_dir(self, sweep_id: str) -> Path:
        """Directory of one sweep's picture."""
        return self.data_dir / "sweeps" / sweep_id
