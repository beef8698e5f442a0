"""Layers that reshape, concatenate or select elements."""
