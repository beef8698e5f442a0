"""The run of a sweep, which is the parent of the runs of its members."""
