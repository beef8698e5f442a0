"""Jobs: their states, their rows, their endpoints."""
