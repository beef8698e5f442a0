"""Layers that standardize their input."""
