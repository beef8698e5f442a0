"""Text cut to the length that fits into a message."""

from __future__ import annotations


def shortened(text: str, longest: int) -> str:
    """The text, or its first `longest` characters and three dots."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def quoted(text: str, longest: int) -> str:
    """The text in quotation marks, with escapes for characters that are not printable, or its first characters."""
    return repr(text) if len(text) <= longest else f"{text[:longest]!r}..."


def counted(number: int, thing: str, things: str = "") -> str:
    """Return a number of things in words, such as "1 row" and "2,000 rows"; `things` is an irregular plural.

    The same as that of the engine, which the commands of the client do not import.
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
