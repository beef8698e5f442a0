"""Exact distributed SGD on a Ray cluster: job spec, data, exchange, trainer, supervisor."""
