"""The service's database: tables, transactions, migrations."""

from service.store.database import Database
from service.store.migrate import migrate

__all__ = ["Database", "migrate"]
