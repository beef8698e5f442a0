"""A job's events, as pages and as a live stream."""
