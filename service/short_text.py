"""Text cut to the length that fits into a message."""

from __future__ import annotations


def shortened(text: str, longest: int) -> str:
    """The text, or its first `longest` characters and three dots."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def quoted(text: str, longest: int) -> str:
    """The text in quotation marks, with escapes for characters that are not printable, or its first characters."""
    return repr(text) if len(text) <= longest else f"{text[:longest]!r}..."
