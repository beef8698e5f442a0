"""The run of a sweep, the parent of its members' runs."""
