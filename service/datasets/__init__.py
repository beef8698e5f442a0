"""Datasets: registration, versions and previews."""
