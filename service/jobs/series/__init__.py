"""The series of a job's metrics: recorded, thinned, read back in several formats."""
