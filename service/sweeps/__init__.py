"""Sweeps: jobs that differ in some fields, made, run and compared together."""
