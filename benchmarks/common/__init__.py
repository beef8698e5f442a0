"""What several benchmarks use: workloads, timing, teams of processes, results."""
