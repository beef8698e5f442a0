"""Activation functions that are linear on one side, exactly or approximately."""
