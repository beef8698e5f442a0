"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: object, known: Iterable[str]) -> str:
    """Return `"; did you mean 'relu'?"` with the known name closest to `name`, or `""` if none is close."""
    near = get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
