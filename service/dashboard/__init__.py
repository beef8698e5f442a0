"""The MLflow server behind a list of allowed routes, the service's tokens and its rules for host names."""
