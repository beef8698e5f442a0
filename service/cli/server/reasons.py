"""One sentence, with the way out, for each error that ends a command which runs a service or changes its database."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from service.client import AddressError
from service.disk import full_disk_of
from service.ownership import ELSEWHERE, ForeignFileError
from service.settings import PREFIX, Settings
from service.stack.control_plane import StartError
from service.store import SchemaError
from service.store.database import is_full
from workers.machine.error_text import FULL

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def reason_of(error: Exception, data_dir: Path | None) -> str | None:
    """The sentence; None for an error that is a fault of the program. `data_dir` is the option, if there is one."""
    match error:
        case SchemaError() | StartError() | AddressError() | ForeignFileError():
            return str(error)
        case ValidationError() if error.title == Settings.__name__:
            return "; ".join(_wrong_setting(str(found["loc"][0]), found["msg"]) for found in error.errors())
        case SettingsError() if found := re.search(r'field "(\w+)"', str(error)):
            return _wrong_setting(found[1], 'must be a list in JSON, such as ["first", "second"]')
        case DBAPIError():
            return _wrong_database(error, Settings() if data_dir is None else Settings(data_dir=data_dir))
        case OSError() if error.errno is not None:
            return _wrong_file(error)
    return None


def _wrong_setting(field: str, message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"the setting {PREFIX}{field.upper()} is wrong: {text[0].lower()}{text[1:]}"


def _wrong_database(error: DBAPIError, settings: Settings) -> str:
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite":
        return f"the database of {PREFIX}DATABASE_URL does not answer: {error.orig}"
    if is_full(error) or full_disk_of(Path(url.database or "").parent):  # SQLite may only say "disk I/O error"
        return f"the disk of the database {url.database} is full: make space, or {ELSEWHERE}"
    if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in DAMAGED:  # the higher bits say where
        way_out = "restore it from a backup, or move it away to start with an empty one"
        return f"the database {url.database} is damaged ({error.orig}): {way_out}"
    return f"the database {url.database} cannot be used ({error.orig}): make it writable, or {ELSEWHERE}"


def _wrong_file(error: OSError) -> str:
    number = error.errno or 0
    what = f"{error.filename}: {os.strerror(number)}" if error.filename else os.strerror(number)
    if number in FULL:
        return f"{what}: make space, or {ELSEWHERE}"
    if number in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{what}: give this account permission to write there, or {ELSEWHERE}"
    return f"{what}: {ELSEWHERE}"
