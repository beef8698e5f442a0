"""Health, system and Prometheus endpoints."""
