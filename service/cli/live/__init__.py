"""Live views of jobs and sweeps in the terminal."""
