"""Computational graphs: nodes, models as lists of layers, checks and tables."""
