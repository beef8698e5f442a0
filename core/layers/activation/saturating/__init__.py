"""Activation functions that saturate on one or both sides, and softmax."""
