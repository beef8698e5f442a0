"""Logs the trained model of a job with its run, and registers it if the spec says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.tracking.model.mlflow_model import model_files
from workers.record.checkpoint import computation_sha256, verify

if TYPE_CHECKING:
    from pathlib import Path

    from service.store.models import Job, MlflowRun
    from service.tracking.mlflow.api import MlflowApi

NAME = "model"  # MLflow finds it as runs:/<run>/model


def log_model(api: MlflowApi, job: Job, run: MlflowRun, checkpoint: Path) -> None:
    """Upload the model of a checkpoint; repeating it has no further effect.

    Raises CheckpointError if the checkpoint is damaged, OSError if it is removed meanwhile.
    """
    computation = computation_sha256(job.spec, job.dataset["digest"])
    verify(checkpoint, job.id, computation)  # first, so that no model is created without files
    model = api.find_model(run.experiment_id, run.run_id) or api.create_model(run.experiment_id, run.run_id, NAME)
    if not model.ready:
        files = model_files(
            checkpoint,
            job.id,
            computation,
            dataset=job.dataset,
            identity={
                "run_id": run.run_id,
                "model_id": model.model_id,
                "utc_time_created": f"{job.finished_at or job.created_at:%Y-%m-%d %H:%M:%S.%f}",
            },
        )
        for path, content in files.items():
            api.upload(model, path, content)
        api.finish_model(run.run_id, model.model_id)
    name = job.spec.get("registered_model_name")
    if name is not None:
        api.register_model(name, run.run_id, model.model_id)
