"""Settings of the service, read from the environment (`GRADFLEET_DATA_DIR` and so on)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the service keeps its data, what it talks to, and what it accepts."""

    model_config = SettingsConfigDict(env_prefix="GRADFLEET_", extra="ignore")

    data_dir: Path = Field(Path("gradfleet-data"), description="Database, datasets, results and uploads live below it.")
    database_url: str | None = Field(None, description="SQLAlchemy URL; default: SQLite in data_dir.")
    mlflow_url: str | None = Field(None, description="MLflow server that gets the runs; without it none is told.")
    mlflow_public_url: str | None = Field(None, description="MLflow as a browser reaches it; default: mlflow_url.")
    data_roots: list[Path] | None = Field(
        None, description="Directories from which datasets may be registered; default: uploads in data_dir."
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
    max_body_bytes: int = Field(1024 * 1024, gt=0, description="Largest body of a request.")

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the store."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'gradfleet.db').absolute()}"

    @property
    def dataset_dir(self) -> Path:
        """Directory of the registered datasets' Arrow files."""
        return self.data_dir / "datasets"

    @property
    def allowed_roots(self) -> list[Path]:
        """Directories from which datasets may be registered."""
        return [self.data_dir / "uploads"] if self.data_roots is None else self.data_roots

    @property
    def mlflow_link(self) -> str | None:
        """Base of the links to MLflow's pages, without the credentials that the service itself may use."""
        url = self.mlflow_public_url or self.mlflow_url
        if url is None:
            return None
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")

    def job_dir(self, job_id: str) -> Path:
        """Directory of one job's checkpoints and results."""
        return self.data_dir / "jobs" / job_id
