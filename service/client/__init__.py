"""Python client of the REST API: `from gradfleet import Client`.

It needs httpx, and pyarrow to read metrics as a table.
"""

from service.client.client import Client
from service.client.errors import (
    AddressError,
    ApiError,
    DownloadError,
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
    "AddressError",
    "ApiError",
    "Client",
    "DownloadError",
    "GradfleetError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobNotSucceededError",
    "Sweep",
    "TokenFormError",
    "UnreachableError",
]
