"""Layers that reduce axes to one number."""
