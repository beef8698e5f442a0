"""The control plane: API, store, scheduler, MLflow tracking, settings, command line, Python client."""
