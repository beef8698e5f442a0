from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def supervisor(ray_cluster: int) -> Iterator[str]:  # noqa: ARG001  a cluster is needed
    """Name of a supervisor that runs attempts, one at a time."""
    from workers.cluster.attempt import Supervisors  # noqa: PLC0415  only tests that train on a cluster pay for it

    name = Supervisors().take()
    yield name
    Supervisors().end(name)


@pytest.fixture(scope="module")
def no_fsync() -> Iterator[None]:
    """Do not wait for the disk: hundreds of `fsync` calls would only make the tests slower."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield
