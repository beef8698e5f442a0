"""Metrics of predicted classes and labels."""
