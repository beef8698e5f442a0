"""Loops compiled by Numba where it is installed, with the same bits as their NumPy form."""
