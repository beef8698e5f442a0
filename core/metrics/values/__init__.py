"""Metrics of predicted values."""
