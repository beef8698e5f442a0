"""What MLflow is told about the jobs."""

from service.tracking.exporter import MlflowExporter

__all__ = ["MlflowExporter"]
