"""The job spec: its fields, the checks against a dataset, the rows that it selects, and the memory that it needs."""
