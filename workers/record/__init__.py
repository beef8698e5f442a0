"""What a job leaves behind: events, history, checkpoints."""
