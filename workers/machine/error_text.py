"""What an error says to a user."""

from __future__ import annotations

import os


def text_of(error: BaseException) -> str:
    """The error in words, without the paths of the machine that the operating system's errors have in theirs."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
