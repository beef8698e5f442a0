"""Measures and figures of trained models."""
