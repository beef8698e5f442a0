"""Layers whose windows slide over images (batch, height, width, channels)."""
