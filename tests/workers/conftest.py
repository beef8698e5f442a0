from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def supervisor(ray_cluster: int) -> Iterator[str]:  # noqa: ARG001  a cluster is needed
    """A supervisor that attempts run on, one after another."""
    import ray  # noqa: PLC0415  only the tests that train on a cluster pay for it

    from workers.cluster.attempt import NAMESPACE, Supervisors  # noqa: PLC0415

    name = Supervisors().take()
    yield name
    ray.kill(ray.get_actor(name, namespace=NAMESPACE))


@pytest.fixture(scope="module")
def no_disk() -> Iterator[None]:
    """Files are not brought to the disk: to wait for it hundreds of times tests nothing more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield
