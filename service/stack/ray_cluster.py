"""Ray on this machine, for this process alone."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.parts import PartStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.settings import Settings

OBJECT_STORE_BYTES = 100 * 1024 * 1024  # Ray's store carries specs and events; gradients go from worker to worker
VITAL = {"gcs_server", "raylet"}  # without these of its processes Ray is dead


@contextmanager
def ray_cluster(data_dir: Path, settings: Settings) -> Iterator[RayCluster]:
    """Start Ray on this machine, for this process alone, and stop it with all that runs on it.

    It has as many CPUs and GPUs for workers as the settings say; by default as many as the machine has.
    """
    # Ray reads these when it is imported. Its ports are bound to the loopback address and want a token.
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_urlsafe(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # workers are what this machine is for; Ray would have them wait for everybody else
    }
    import ray  # noqa: PLC0415

    with _directory(data_dir) as directory:
        # A worker is one logical CPU: two workers must fit on a machine with one core, too.
        cluster = RayCluster(directory, settings.cluster_cpus or max(2, os.cpu_count() or 1), settings.cluster_gpus)
        try:
            cluster.start()
            yield cluster
        finally:
            ray.shutdown()


class RayCluster:
    """A Ray of one node, with its sockets and logs below `directory`.

    `resources` is what it has for workers, by Ray's names: CPUs, and GPUs, of which Ray looks for its own by default.
    """

    def __init__(self, directory: str, cpus: int, gpus: int | None) -> None:
        self._directory, self._cpus, self._gpus = directory, cpus, gpus
        self.resources: dict[str, float] = {}

    def start(self) -> None:
        """Start Ray and connect this process to it."""
        import ray  # noqa: PLC0415

        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        ray.init(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=self._directory,
        )
        if threading.current_thread() is threading.main_thread():  # only there does Python set any
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Ray has put its own in their place, which end the process at once
        found = ray.cluster_resources()
        self.resources = {name: found.get(name, 0.0) for name in ("CPU", "GPU")}

    def failed(self) -> bool:
        """Whether one of the processes without which Ray is dead has ended.

        That is known at once, whereas calls of a dead Ray hang, and end this process after a minute.
        """
        from ray._private import worker  # noqa: PLC0415  Ray says it nowhere else

        node = worker._global_node
        return node is None or any(kind in VITAL for kind, _ in node.dead_processes())

    def status(self) -> PartStatus:
        """What it has for workers; not ready while it is dead."""
        if self.failed():
            return PartStatus(ready=False, detail="Ray has died and is started again")
        return PartStatus(ready=True, detail=", ".join(f"{count:g} {name}s" for name, count in self.resources.items()))

    def restart(self) -> bool:
        """Start Ray again, with nothing on it."""
        import ray  # noqa: PLC0415

        ray.shutdown()
        self.start()
        return True

    def leave(self) -> None:
        """Nothing: it is this process's own."""


@contextmanager
def _directory(data_dir: Path) -> Iterator[str]:
    """A directory for Ray's sockets and logs, for which the data directory's path may be too long: it has a link."""
    link = data_dir / "ray"
    if link.is_symlink():  # the last one was not stopped but killed
        shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
    with tempfile.TemporaryDirectory(prefix="gradfleet-", ignore_cleanup_errors=True) as directory:
        link.symlink_to(directory)
        try:
            yield directory
        finally:
            link.unlink()
