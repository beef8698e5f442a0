"""Logs and Prometheus metrics of a process."""
