"""How workers add their gradients up: the canonical tree, who owns what, messages and shared memory."""
