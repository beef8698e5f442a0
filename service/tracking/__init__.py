"""Export of jobs and sweeps to MLflow."""

from service.tracking.exporter import MlflowExporter

__all__ = ["MlflowExporter"]
