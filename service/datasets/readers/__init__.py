"""Readers of the supported formats, one module per format."""
