"""Layers that multiply by weights, add a bias, or look up rows of a table."""
