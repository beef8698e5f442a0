"""Activations that are flat at both ends, and softmax."""
