"""Data of a job: from the file of a dataset to the rows of a batch."""
