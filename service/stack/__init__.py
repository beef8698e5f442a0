"""The components of a running service, put together."""
