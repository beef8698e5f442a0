"""The log: one JSON object in a line, with the job and the request that it is about."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE_BYTES = 32 * 1024 * 1024
OLD_FILES = 3

# What a record can carry as `extra=`.
FIELDS = ("job_id", "attempt", "method", "route", "status", "duration_ms")

# Every request is served in a context of its own, so what is set there ends with it.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """Records as lines of JSON: time, level, logger, message; where known the request's id, `FIELDS`, the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **{field: getattr(record, field, None) for field in FIELDS},
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({key: value for key, value in entry.items() if value is not None})


def log_to(path: Path | None = None) -> None:
    """Write the process's log to a file, of which a few old ones are kept, or else to the standard error.

    The file's directory must exist.
    """
    handler = (
        logging.StreamHandler()
        if path is None
        else RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
    )
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for talkative in ("alembic.runtime.plugins", "httpx"):  # the latter has a line for each request to MLflow
        logging.getLogger(talkative).setLevel(logging.WARNING)
