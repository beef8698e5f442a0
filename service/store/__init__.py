"""The service's database: tables, transactions, migrations."""

from service.store.database import Database, Transactions
from service.store.migrate import migrate

__all__ = ["Database", "Transactions", "migrate"]
