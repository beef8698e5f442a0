"""The device on which plans run: the host's CPUs, or a GPU with copies of some of the host's arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from core import Plan, aligned_zeros
from core.arrays import Namespace, Shape

HostArray = NDArray[Any]


class DeviceError(RuntimeError):
    """There is no GPU that this process can use; the message says what is missing."""


class Mirror:
    """Arrays of the host and their copies on the device. If the device is the host, both are the same arrays."""

    def __init__(self, host: Sequence[HostArray], device: Sequence[Any]) -> None:
        self.host, self.device = host, device

    def upload(self) -> None:
        """Copy the host's arrays to the device. Afterwards the host's arrays may change."""

    def download(self) -> None:
        """Wait for the device and copy its arrays to the host."""


class _Copies(Mirror):
    def __init__(self, host: Sequence[HostArray], device: Sequence[Any], wait: Callable[[], None]) -> None:
        super().__init__(host, device)
        self._wait = wait

    def upload(self) -> None:
        for host, device in zip(self.host, self.device, strict=True):
            device.set(host)
        # Copies from page-locked memory are asynchronous.
        self._wait()

    def download(self) -> None:
        for host, device in zip(self.host, self.device, strict=True):
            device.get(out=host)


class Host:
    """The host's CPUs: nothing is copied."""

    xp: Namespace = np
    threaded = True  # whether threads compute shards at the same time

    def zeros(self, shape: Shape, dtype: DTypeLike) -> HostArray:
        """An aligned array of the host, which can be copied to the device and back quickly."""
        return aligned_zeros(shape, dtype)

    def lock(self, memory: HostArray) -> None:
        """Prepare memory that processes share for quick copies, until this process ends."""

    def mirror(self, arrays: Sequence[HostArray]) -> Mirror:
        """Mirror arrays of the host."""
        return Mirror(arrays, arrays)

    def rows(self, plan: Plan) -> Mirror:
        """Mirror the features of a plan, and its labels or targets."""
        inputs = _inputs_of(plan)
        return Mirror(inputs, inputs)

    def to_host(self, array: HostArray) -> HostArray:
        """The array itself."""
        return array

    def fingerprint(self) -> dict[str, str]:
        """What the bits of a result depend on besides the machine's own fingerprint."""
        return {}


class Gpu:
    """The one GPU that Ray has assigned to this process, through CuPy; see `Host`. All its work is on one stream.

    Raises `DeviceError`.
    """

    threaded = False  # a GPU computes one shard at a time; the threads are for the update

    def __init__(self) -> None:
        try:
            import cupy  # noqa: PLC0415  workers on CPUs need no GPU library
            import cupyx  # noqa: PLC0415
        except ImportError as error:
            raise DeviceError("a worker on a GPU needs CuPy, the extra `cuda` of gradfleet") from error
        self.xp: Namespace = cupy
        self._zeros_pinned = cupyx.zeros_pinned
        self._runtime = cupy.cuda.runtime
        try:
            self._name = self._runtime.getDeviceProperties(0)["name"].decode()
        except self._runtime.CUDARuntimeError as error:
            raise DeviceError(f"CuPy finds no usable GPU: {error}") from error

    def zeros(self, shape: Shape, dtype: DTypeLike) -> HostArray:
        """An array in page-locked memory, aligned to a page."""
        zeros: HostArray = self._zeros_pinned(shape, dtype)
        return zeros

    def lock(self, memory: HostArray) -> None:
        """Lock the pages of the memory."""
        self._runtime.hostRegister(memory.ctypes.data, memory.nbytes, 0)

    def mirror(self, arrays: Sequence[HostArray]) -> Mirror:
        """Mirror arrays of the host in the GPU's memory."""
        return self._copies(arrays, [aligned_zeros(array.shape, array.dtype, self.xp) for array in arrays])

    def rows(self, plan: Plan) -> Mirror:
        """Mirror the same inputs as `Host` in page-locked memory, where the host prepares them."""
        inputs = _inputs_of(plan)
        return self._copies([self.zeros(array.shape, array.dtype) for array in inputs], inputs)

    def to_host(self, array: Any) -> HostArray:
        """A copy of an array of the GPU in the host's memory."""
        copied: HostArray = array.get(out=np.empty(array.shape, array.dtype))
        return copied

    def _copies(self, host: Sequence[HostArray], device: Sequence[Any]) -> Mirror:
        return _Copies(host, device, self._wait)

    def _wait(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def fingerprint(self) -> dict[str, str]:
        """The GPU, and the versions of CUDA and CuPy."""
        return {"gpu": self._name, "cuda": str(self._runtime.runtimeGetVersion()), "cupy": self.xp.__version__}


def _inputs_of(plan: Plan) -> list[Any]:
    return [plan.inputs[name] for name in ("features", "labels", "targets") if name in plan.inputs]


Device: TypeAlias = Host | Gpu

HOST = Host()
