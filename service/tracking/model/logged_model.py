"""Logs the trained model of a job beside its run, and registers it where the spec asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.tracking.model.mlflow_model import model_files
from workers.data.dataset import DatasetInfo
from workers.record.checkpoint import computation_sha256, verify

if TYPE_CHECKING:
    from pathlib import Path

    from service.store.models import Job, MlflowRun
    from service.tracking.mlflow.api import MlflowApi

NAME = "model"  # MLflow finds it as runs:/<run>/model


def log_model(api: MlflowApi, job: Job, run: MlflowRun, checkpoint: Path) -> None:
    """Send the model that a checkpoint holds; harmless when done twice.

    Raises CheckpointError for a checkpoint that is not whole, OSError where it goes meanwhile.
    """
    computation = computation_sha256(job.spec, job.dataset["digest"])
    verify(checkpoint, job.id, computation)  # first, so that no model is made that stays without files
    model = api.find_model(run.experiment_id, run.run_id) or api.create_model(run.experiment_id, run.run_id, NAME)
    if not model.ready:
        files = model_files(
            checkpoint,
            job=job.id,
            computation=computation,
            classes=job.dataset["classes"],
            dtype=DatasetInfo.from_json(job.dataset).dtype,
            written=job.finished_at or job.created_at,
            run_id=run.run_id,
            model_id=model.model_id,
        )
        for path, content in files.items():
            api.upload(model, path, content)
        api.finish_model(run.run_id, model.model_id)
    name = job.spec.get("registered_model_name")
    if name is not None:
        api.register_model(name, run.run_id, model.model_id)
