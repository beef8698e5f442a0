"""Logs, and the figures that a process counts for Prometheus."""
