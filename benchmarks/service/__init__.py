"""The REST API under load."""
