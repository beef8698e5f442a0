"""Figures of a model's predictions."""
