"""The text of an error for users."""

from __future__ import annotations

import os


def text_of(error: BaseException) -> str:
    """The error's message. Errors of the operating system are described without the paths in their messages."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
