"""A Ray cluster that others run, and that this process joins while it schedules."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from service.parts import PartStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_TIMEOUT = 2.0  # seconds

log = logging.getLogger(__name__)


class JoinedCluster:
    """The cluster whose head is at `address` (host:port); this machine must be one of its nodes.

    Not joined at first: it counts as failed, and the scheduler joins it with its first pass.
    """

    def __init__(self, address: str) -> None:
        # Ray reads these when it is imported. A call without a connection would start a cluster of its own.
        os.environ |= {"RAY_ENABLE_AUTO_CONNECT": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        self._address = address
        self._vital: list[tuple[str, int]] | None = None  # what the connection can not do without
        self._silent = False

    @property
    def resources(self) -> Mapping[str, float]:
        """CPUs and GPUs of the nodes that are alive now; none while the cluster has failed or is not joined."""
        import ray  # noqa: PLC0415

        found = {} if self.failed() else ray.cluster_resources()
        return {name: found.get(name, 0.0) for name in ("CPU", "GPU")}

    def failed(self) -> bool:
        """Whether the head or this machine's part of the cluster does not answer, or has not been joined.

        Looked at from outside, since calls of a dead head hang, and end this process after a minute.
        """
        vital = self._vital  # another thread may be leaving
        return vital is None or not all(_answers(*part) for part in vital)

    def status(self) -> PartStatus:
        """Whether its head answers; a process that stands by has not joined it."""
        host, _, port = self._address.rpartition(":")
        if not _answers(host, int(port)):
            return PartStatus(ready=False, detail="the head of the Ray cluster does not answer")
        joined = ", ".join(f"{count:g} {name}s" for name, count in self.resources.items())
        return PartStatus(ready=True, detail="not joined, since another process leads" if self.failed() else joined)

    def restart(self) -> bool:
        """Join the cluster, once there is one again; False while there is none."""
        self.leave()
        host, _, port = self._address.rpartition(":")
        if not _answers(host, int(port)):
            self._say_once("nothing answers at %s: is the head of the Ray cluster up?", self._address)
            return False
        import ray  # noqa: PLC0415
        from ray.exceptions import RayError  # noqa: PLC0415

        try:
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.WARNING)
        except (RuntimeError, ValueError, OSError, RayError) as error:  # a head that is starting, or wants a token
            self._say_once("the Ray cluster at %s can not be joined: %s", self._address, error)
            ray.shutdown()
            return False
        here = ray.get_runtime_context().get_node_id()
        (node,) = (node for node in ray.nodes() if node["NodeID"] == here)
        # A head that was started again has another port for its node, if not for itself.
        self._vital = [(host, int(port)), (node["NodeManagerAddress"], node["NodeManagerPort"])]
        self._silent = False
        log.info("joined the Ray cluster at %s", self._address)
        return True

    def leave(self) -> None:
        """Give the connection up, if there is one. What runs on the cluster goes on."""
        if self._vital is not None:
            import ray  # noqa: PLC0415

            self._vital = None
            ray.shutdown()

    def _say_once(self, message: str, *values: object) -> None:
        if not self._silent:
            log.warning(message + "; trying again until it can", *values)
            self._silent = True


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), ANSWER_TIMEOUT).close()
    except OSError:
        return False
    return True
