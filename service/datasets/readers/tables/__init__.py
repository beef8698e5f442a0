"""Readers of tables that spreadsheets, databases and programs write, and the forms of text files."""
