"""What deletes datasets, which jobs use."""
