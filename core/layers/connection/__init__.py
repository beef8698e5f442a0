"""Layers that multiply by weights, add a bias or look rows up."""
