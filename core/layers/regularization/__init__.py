"""Layers that act in training only."""
