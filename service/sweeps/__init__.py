"""Sweeps: jobs that differ in some fields, created, run and compared together."""
