"""Jobs: states, database rows and endpoints."""
