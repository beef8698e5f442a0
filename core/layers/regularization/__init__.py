"""Layers that differ between training and evaluation."""
