"""The parts of a running service, put together."""
