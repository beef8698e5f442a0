"""Columns of features: numbers, categories and dates, and which of them are used."""
