"""Datasets: registered by path, named by jobs."""
