"""Connection of this process to Ray."""

from __future__ import annotations

import logging
import os
from typing import Any

from service.processes import SAFE_PATH


def configure_ray(**variables: str) -> None:
    """Set the environment of Ray and of the processes that it starts; to be called before Ray is imported.

    Ray ends a process whose connection to the raylet breaks, if it considers the raylet dead: if the process with this
    id does not exist, or without an id, if its own parent is process 1 (systemd, nohup, docker --init). The service
    restarts Ray instead, so the id is its own. Ray sets the right one for the workers.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_RAYLET_PID": str(os.getpid()), **SAFE_PATH, **variables}


def connect(**arguments: Any) -> None:
    """Call `ray.init`. Workers do not import modules from this process's current directory."""
    import ray  # noqa: PLC0415
    from ray.job_config import JobConfig  # noqa: PLC0415

    # Ray puts the driver's current directory first on its workers' module path, except for jobs of Ray's own client.
    # That flag is private. It also makes Ray ignore a `runtime_env`, so none may be given.
    assert "runtime_env" not in arguments  # noqa: S101
    config = JobConfig(_client_job=True)
    ray.init(job_config=config, log_to_driver=False, logging_level=logging.WARNING, **arguments)
