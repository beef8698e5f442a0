"""The trained model as MLflow loads it."""
