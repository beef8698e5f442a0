"""Text of users in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from service.visible_text import visible

# What begins an element of Markdown within a line: code, emphasis, a link, an image, HTML, a heading, a cell.
# A colon before slashes and a full stop after www begin a link too.
SPECIAL = re.compile(r"[\\`*\[\]<>&!|~#$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|@")
# MLflow renders tables without space between columns.
GAP = "\N{NO-BREAK SPACE}" * 3


def table_row(cells: Iterable[str]) -> str:
    """Return a row of a table. The cells are Markdown, without line breaks."""
    return f"| {' | '.join(' '.join(cell.replace('|', '¦').split()) + GAP for cell in cells)} |"


def literal(text: str) -> str:
    """Return text on one line that Markdown shows as it is: it contains no link, no image and no HTML."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", visible(text))


def code(text: str) -> str:
    """Return text as code, in which only a backquote has a meaning."""
    return "`" + visible(text).replace("`", "'") + "`"
