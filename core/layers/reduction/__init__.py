"""Layers that reduce axes."""
