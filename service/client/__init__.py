"""The Python client: `from service.client import Client`.

It loads nothing of the service: what it needs is httpx, and pyarrow where metrics are read as a table.
"""

from service.client.client import Client
from service.client.errors import (
    ApiError,
    GradfleetError,
    JobCancelledError,
    JobFailedError,
    JobNotSucceededError,
    TokenFormError,
    UnreachableError,
)
from service.client.job import Job
from service.client.sweep import Sweep

__all__ = [
    "ApiError",
    "Client",
    "GradfleetError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobNotSucceededError",
    "Sweep",
    "TokenFormError",
    "UnreachableError",
]
