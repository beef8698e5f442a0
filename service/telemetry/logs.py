"""The log: one JSON object per line, with the ids of the job and the request."""

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

# Fields that a record can have from `extra=`.
FIELDS = ("job_id", "attempt", "method", "route", "status", "duration_ms")

# Every request has its own context, so the value ends with the request.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """Records as lines of JSON: time, level, logger, message, and if known the request's id, `FIELDS` and exception."""

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
    """Write the log of the process to a rotating file, or to standard error.

    The file's directory must exist.
    """
    handler = (
        logging.StreamHandler()
        if path is None
        else RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
    )
    logging.raiseExceptions = False  # while the disk is full, no traceback for each record that is lost
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for verbose in ("alembic.runtime.plugins", "httpx"):  # httpx logs each request to MLflow
        logging.getLogger(verbose).setLevel(logging.WARNING)
