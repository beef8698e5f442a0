"""One file for each format that datasets come in."""
