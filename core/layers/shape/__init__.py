"""Layers that move, join or pick numbers."""
