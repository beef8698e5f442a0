"""Scheduling: admission, leadership, and following of attempts."""
