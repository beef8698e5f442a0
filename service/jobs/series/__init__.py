"""Series of a job's metrics: recording, thinning and formats."""
