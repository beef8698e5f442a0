"""Checks of a spec against its dataset, and how they report what is wrong."""
