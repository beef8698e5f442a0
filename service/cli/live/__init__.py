"""Live views of jobs and sweeps on a terminal."""
