"""The job's spec: its fields, what it resolves to, and the engine's objects that it describes."""
