"""A Ray cluster on this machine, for this process alone."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.components import ComponentStatus
from service.stack.control_plane import StartError
from service.stack.data_directory import LINK
from service.stack.ray_certificate import write_certificate
from service.stack.ray_driver import configure_ray, connect
from workers.machine.arithmetic import LevelError, node_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.settings import Settings

OBJECT_STORE_BYTES = 100 * 1024 * 1024  # the store holds specs and events; gradients go from worker to worker
PREFIX = "gradfleet-"  # of the name of its temporary directory
# Bytes of a path that the system accepts for a socket, less those that Ray adds to its directory: the name of the
# session with the time and the process id, and `sockets/plasma_store`.
MAX_DIRECTORY = 107 - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
REQUIRED = {"gcs_server", "raylet"}  # Ray does not work without these processes


@contextmanager
def ray_cluster(data_dir: Path, settings: Settings) -> Iterator[RayCluster]:
    """Start Ray on this machine, and stop it with everything that runs on it.

    The numbers of CPUs and GPUs for workers come from the settings; by default the machine's. Raises `StartError` if
    the CPU does not have the level of arithmetic of the settings.
    """
    try:
        node = node_environment(settings.arithmetic)
    except LevelError as error:
        raise StartError(str(error)) from error
    configure_ray(
        **node,
        # Ray's ports are bound to the loopback address. The token is for the one port that does not use TLS.
        **write_certificate(data_dir / "ray-certificate", secrets.token_hex(32)),
        RAY_AUTH_MODE="token",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_worker_niceness="0",  # Ray's default gives workers a lower priority than every other process
        AUTOSCALER_METRIC_PORT="-1",  # not a port, so the autoscaler, which has nothing to scale, opens none
        GRPC_VERBOSITY="NONE",  # otherwise every refused connection is a line in this process's output
    )
    import ray  # noqa: PLC0415

    with _directory(data_dir) as directory:
        # A worker takes one logical CPU: two workers must fit on a machine with one core, too.
        cluster = RayCluster(directory, settings.cluster_cpus or max(2, os.cpu_count() or 1), settings.cluster_gpus)
        try:
            try:
                cluster.start()
            except Exception as error:
                raise StartError(f"Ray did not start: {error}") from error
            yield cluster
        finally:
            ray.shutdown()


class RayCluster:
    """Ray cluster of one node, with its sockets and logs in `directory`.

    `resources` are the CPUs and GPUs for workers, by Ray's names. Without a number of GPUs, Ray detects them.
    """

    def __init__(self, directory: str, cpus: int, gpus: int | None) -> None:
        self.directory, self._cpus, self._gpus = directory, cpus, gpus
        self.resources: dict[str, float] = {}

    def start(self) -> None:
        """Start Ray and connect this process to it."""
        import ray  # noqa: PLC0415

        _renew_token()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        connect(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=self.directory,
        )
        if threading.current_thread() is threading.main_thread():  # Python sets signal handlers in no other thread
            for number, handler in handlers.items():
                signal.signal(number, handler)  # in place of Ray's, which end the process at once
        found = ray.cluster_resources()
        self.resources = {name: found.get(name, 0.0) for name in ("CPU", "GPU")}

    def levels(self) -> list[list[str]]:
        """The levels of arithmetic of this machine."""
        from workers.cluster.levels import levels_of_nodes  # noqa: PLC0415

        return levels_of_nodes()

    def failed(self) -> bool:
        """Whether a process that Ray requires has ended.

        This is known at once, whereas calls to a dead Ray block, and end this process after a minute.
        """
        from ray._private import worker  # noqa: PLC0415  there is no public interface

        node = worker._global_node
        return node is None or any(kind in REQUIRED for kind, _ in node.dead_processes())

    def status(self) -> ComponentStatus:
        """The resources for workers; not ready while Ray is dead."""
        if self.failed():
            return ComponentStatus(ready=False, detail="Ray has ended and is being restarted")
        return ComponentStatus(
            ready=True, detail=", ".join(f"{count:g} {name}s" for name, count in self.resources.items())
        )

    def restart(self) -> bool:
        """Restart Ray; nothing that ran on it continues."""
        import ray  # noqa: PLC0415

        ray.shutdown()
        self.start()
        return True

    def leave(self) -> None:
        """Do nothing: no other process uses this cluster."""


@contextmanager
def _directory(data_dir: Path) -> Iterator[str]:
    """A temporary directory for Ray's sockets and logs, linked from the data directory.

    Ray opens its directory to every account of the machine, so it gets one inside a private directory.
    """
    remove_left_directory(data_dir)  # of a process that was killed
    link = data_dir / LINK
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=_short_directory(), ignore_cleanup_errors=True) as directory:
        link.symlink_to(directory)
        try:
            yield f"{directory}/ray"
        finally:
            link.unlink()


def remove_left_directory(data_dir: Path) -> None:
    """Remove Ray's temporary directory and the link to it, if they are there."""
    link = data_dir / LINK
    if link.is_symlink():
        if link.readlink().name.startswith(PREFIX):
            shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()


def _short_directory() -> str:
    """A directory for temporary files in which the paths of Ray's sockets are not too long."""
    longest = MAX_DIRECTORY - len(f"/{PREFIX}01234567/ray")
    try:
        usual = [tempfile.gettempdir()]
    except FileNotFoundError:  # none can be written, for example on a full disk
        usual = []
    for directory in (*usual, "/tmp", "/var/tmp"):  # noqa: S108  a private directory is created in it
        if len(os.fsencode(directory)) <= longest and os.access(directory, os.W_OK | os.X_OK):
            return directory
    raise StartError(
        f"there is no directory for temporary files: set TMPDIR to one that can be written and whose path has at most "
        f"{longest} characters"
    )


def _renew_token() -> None:
    """Set a new token for the next cluster.

    A program that takes the port of a dead cluster's agent, which does not use TLS, may receive its token.
    """
    from ray import _raylet  # noqa: PLC0415  there is no public interface

    os.environ["RAY_AUTH_TOKEN"] = secrets.token_urlsafe(32)
    tokens: Any = vars(_raylet)["AuthenticationTokenLoader"]
    tokens.instance().reset_cache()
