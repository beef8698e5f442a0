"""Activations that are linear on one side, or nearly so."""
