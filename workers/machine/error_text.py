"""The text of an error for users."""

from __future__ import annotations

import errno
import os

# Numbers of the errors that mean that a file cannot become longer: a full disk, a quota, a limit of the process.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def text_of(error: BaseException) -> str:
    """The error's message. Errors of the operating system are described without the paths in their messages."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
