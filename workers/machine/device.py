"""Where plans run: on the host's own processors, or on a GPU, whose arrays mirror some of the host's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from core import Plan, aligned_zeros
from core.arrays import Namespace, Shape

HostArray = NDArray[Any]


class DeviceError(RuntimeError):
    """There is no GPU that this process could compute on; the message says what it lacks."""


class Mirror:
    """Arrays of the host, and the device's of the same numbers: the same arrays where the device is the host."""

    def __init__(self, host: Sequence[HostArray], device: Sequence[Any]) -> None:
        self.host, self.device = host, device

    def upload(self) -> None:
        """Copy the host's numbers to the device. The host's arrays may be changed at once."""

    def download(self) -> None:
        """Wait for the device and copy its numbers to the host."""


class _Copies(Mirror):
    def __init__(self, host: Sequence[HostArray], device: Sequence[Any], wait: Callable[[], None]) -> None:
        super().__init__(host, device)
        self._wait = wait

    def upload(self) -> None:
        for host, device in zip(self.host, self.device, strict=True):
            device.set(host)
        # From locked memory the GPU copies while the host goes on.
        self._wait()

    def download(self) -> None:
        for host, device in zip(self.host, self.device, strict=True):
            device.get(out=host)


class Host:
    """The host's own processors: nothing is copied."""

    xp: Namespace = np
    threaded = True  # whether threads are to compute shards at once

    def zeros(self, shape: Shape, dtype: DTypeLike) -> HostArray:
        """An array of the host, aligned, from which copies to the device and back are quick."""
        return aligned_zeros(shape, dtype)

    def lock(self, memory: HostArray) -> None:
        """Make copies quick from memory that other processes share, for as long as this process lives."""

    def mirror(self, arrays: Sequence[HostArray]) -> Mirror:
        """Mirror arrays of the host."""
        return Mirror(arrays, arrays)

    def rows(self, plan: Plan) -> Mirror:
        """Mirror a plan's inputs, features and labels."""
        inputs = [plan.inputs["features"], plan.inputs["labels"]]
        return Mirror(inputs, inputs)

    def fingerprint(self) -> dict[str, str]:
        """What the last bits of a result may depend on, beside what they depend on everywhere."""
        return {}


class Gpu:
    """The one GPU that Ray has given to this process, by way of CuPy; see `Host`. All its work is on one stream.

    Raises `DeviceError`.
    """

    threaded = False  # what a GPU does at once is inside of a shard; the threads are the update's

    def __init__(self) -> None:
        try:
            import cupy  # noqa: PLC0415  workers on CPUs need no GPU library
            import cupyx  # noqa: PLC0415
        except ImportError as error:
            raise DeviceError("a worker on a GPU needs CuPy, the extra `cuda` of gradfleet, and has none") from error
        self.xp: Namespace = cupy
        self._zeros_pinned = cupyx.zeros_pinned
        self._runtime = cupy.cuda.runtime
        try:
            self._name = self._runtime.getDeviceProperties(0)["name"].decode()
        except self._runtime.CUDARuntimeError as error:
            raise DeviceError(f"CuPy finds no GPU that it could use: {error}") from error

    def zeros(self, shape: Shape, dtype: DTypeLike) -> HostArray:
        """An array in locked memory, which begins with a page."""
        zeros: HostArray = self._zeros_pinned(shape, dtype)
        return zeros

    def lock(self, memory: HostArray) -> None:
        """Lock its pages."""
        self._runtime.hostRegister(memory.ctypes.data, memory.nbytes, 0)

    def mirror(self, arrays: Sequence[HostArray]) -> Mirror:
        """Mirror arrays of the host in the GPU's memory."""
        return self._copies(arrays, [aligned_zeros(array.shape, array.dtype, self.xp) for array in arrays])

    def rows(self, plan: Plan) -> Mirror:
        """Mirror a plan's inputs in locked memory, where the host prepares them."""
        inputs = [plan.inputs["features"], plan.inputs["labels"]]
        return self._copies([self.zeros(array.shape, array.dtype) for array in inputs], inputs)

    def _copies(self, host: Sequence[HostArray], device: Sequence[Any]) -> Mirror:
        return _Copies(host, device, self._wait)

    def _wait(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def fingerprint(self) -> dict[str, str]:
        """The GPU, and the versions of CUDA and CuPy."""
        return {"gpu": self._name, "cuda": str(self._runtime.runtimeGetVersion()), "cupy": self.xp.__version__}


Device: TypeAlias = Host | Gpu

HOST = Host()
