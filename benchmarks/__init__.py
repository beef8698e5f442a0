"""Benchmarks, one package each: `python -m benchmarks.engine` and so on, from the root of the checkout."""
