"""A training step of the engine, compared with PyTorch."""
