"""What a job records: events, history, checkpoints."""
