"""Text of which every character can be seen."""

from __future__ import annotations

import unicodedata

# Letters and marks of Unicode that no font shows.
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")


def visible(text: str) -> str:
    r"""Return text with an escape such as `\x1b` for each character that is not shown as itself.

    These are control characters and line ends, characters that change the direction of text or have no width, halves
    of surrogate pairs, and characters that Unicode has not assigned.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    shown = character.isprintable() or unicodedata.category(character) == "Zs"
    return character if shown and character not in INVISIBLE else ascii(character)[1:-1]
