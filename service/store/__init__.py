"""The service's database: tables, transactions, migrations."""

from service.store.database import Database, Transactions
from service.store.migrate import SchemaError, migrate

__all__ = ["Database", "SchemaError", "Transactions", "migrate"]
