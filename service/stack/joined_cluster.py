"""A Ray cluster that runs elsewhere, which this process joins while it schedules."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from service.addresses import host_and_port
from service.components import ComponentStatus
from service.stack.ray_driver import configure_ray, connect

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_TIMEOUT = 2.0  # seconds

log = logging.getLogger(__name__)


class JoinedCluster:
    """The cluster whose head is at `address` (host:port); this machine must be one of its nodes.

    Before it is joined it counts as failed; the scheduler joins it in its first pass.
    """

    def __init__(self, address: str) -> None:
        configure_ray(RAY_ENABLE_AUTO_CONNECT="0")  # a call without a connection would start another cluster
        self._address = address
        self._required: list[tuple[str, int]] | None = None  # ports that the connection needs; None while not joined
        self._schedules = False  # whether this process needs the cluster
        self._warned = False

    @property
    def resources(self) -> Mapping[str, float]:
        """CPUs and GPUs of the nodes that are alive; none while the cluster has failed or is not joined."""
        import ray  # noqa: PLC0415

        found = {} if self.failed() else ray.cluster_resources()
        return {name: found.get(name, 0.0) for name in ("CPU", "GPU")}

    def levels(self) -> list[list[str]]:
        """For each node with CPUs for workers, its levels of arithmetic."""
        from workers.cluster.levels import levels_of_nodes  # noqa: PLC0415

        return [] if self.failed() else levels_of_nodes()

    def failed(self) -> bool:
        """Whether the head or this machine's node does not answer, or the cluster has not been joined.

        This only tries to connect: calls to a dead head block, and end this process after a minute.
        """
        required = self._required  # another thread may leave the cluster meanwhile
        return required is None or not all(_answers(*address) for address in required)

    def status(self) -> ComponentStatus:
        """Whether the head answers and, if this process schedules, whether it has joined the cluster."""
        if not _answers(*host_and_port(self._address)):
            return ComponentStatus(ready=False, detail="the head of the Ray cluster does not answer")
        if not self.failed():
            joined = ", ".join(f"{count:g} {name}s" for name, count in self.resources.items())
            return ComponentStatus(ready=True, detail=joined)
        if self._schedules:
            detail = "this machine's Ray node has not joined the cluster; see the log"
            return ComponentStatus(ready=False, detail=detail)
        return ComponentStatus(ready=True, detail="not joined: another process schedules")

    def restart(self) -> bool:
        """Join the cluster; False if it does not answer or cannot be joined yet."""
        self._disconnect()
        self._schedules = True
        head = host_and_port(self._address)
        if not _answers(*head):
            self._warn_once("no Ray cluster responds at %s: is its head running?", self._address)
            return False
        import ray  # noqa: PLC0415
        from ray.exceptions import RayError  # noqa: PLC0415

        try:
            connect(address=self._address)
        except (RuntimeError, ValueError, OSError, RayError) as error:  # it is starting, or requires a token
            self._warn_once("the Ray cluster at %s cannot be joined: %s", self._address, error)
            ray.shutdown()
            return False
        here = ray.get_runtime_context().get_node_id()
        (node,) = (node for node in ray.nodes() if node["NodeID"] == here)
        # A head that has been restarted listens on the same port, but its node has another one.
        self._required = [head, (node["NodeManagerAddress"], node["NodeManagerPort"])]
        self._warned = False
        log.info("joined the Ray cluster at %s", self._address)
        return True

    def leave(self) -> None:
        """Disconnect, if connected. Jobs on the cluster continue."""
        self._schedules = False
        self._disconnect()

    def _disconnect(self) -> None:
        if self._required is not None:
            import ray  # noqa: PLC0415

            self._required = None
            ray.shutdown()

    def _warn_once(self, message: str, *values: object) -> None:
        if not self._warned:
            log.warning(message + "; retrying", *values)
            self._warned = True


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), ANSWER_TIMEOUT).close()
    except OSError:
        return False
    return True
