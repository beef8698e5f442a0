"""MLflow's REST API: client, entries, and views of an experiment."""
