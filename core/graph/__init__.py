"""Computational graphs: nodes, models as lists of layers, input checks, and summaries."""
