"""The exchange between workers: the canonical tree of sums, ownership of slices, messages and shared memory."""
