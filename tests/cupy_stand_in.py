"""A stand-in for CuPy, computed by NumPy: what the engine calls of CuPy 13.3 to 14, and the keywords that it has there.

Its arrays come from the host and go there by `set` and `get` alone. They are refused wherever an array of NumPy's is
wanted, as those are refused here. What lies in locked memory on the host must not change between `set` and the next
time that somebody waits for the stream, because a GPU may be copying it. What CuPy has and the engine must not use,
since the order of its additions is nobody's, is left out: `add.at`.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from core import aligned_zeros


def _inner(value: Any) -> Any:
    """What NumPy computes with; a TypeError as CuPy's for an array of NumPy's."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _out(value: Any) -> Any:
    if value is not None and not isinstance(value, ndarray):
        raise TypeError("Output arguments type must be cupy.ndarray")
    return _inner(value)


def _result(value: Any, out: Any = None) -> Any:
    return ndarray(np.asarray(value)) if out is None else out


class ndarray:  # noqa: N801  CuPy's name
    """An array on the device."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called with an array of the device")

    dtype = property(lambda self: self._array.dtype)
    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    T = property(lambda self: ndarray(self._array.T))

    def __len__(self) -> int:
        return len(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __getitem__(self, place: Any) -> ndarray:
        place = place if isinstance(place, tuple) else (place,)
        # With an ellipsis a single number, too, is an array and a view.
        return ndarray(self._array[place if Ellipsis in place else (*place, ...)])

    def __setitem__(self, place: Any, value: Any) -> None:
        self._array[place] = _inner(value)

    def __add__(self, other: Any) -> ndarray:
        return ndarray(np.asarray(self._array + _inner(other)))

    def __mul__(self, other: Any) -> ndarray:
        return ndarray(np.asarray(self._array * _inner(other)))

    def __eq__(self, other: object) -> ndarray:  # type: ignore[override]
        return ndarray(np.asarray(self._array == _inner(other)))

    def view(self, dtype: Any = None) -> ndarray:
        return ndarray(self._array.view(dtype))

    def reshape(self, *shape: Any) -> ndarray:
        return ndarray(self._array.reshape(*shape))

    def fill(self, value: Any) -> None:
        self._array.fill(_inner(value))

    def take(self, indices: Any, axis: Any = None, out: Any = None) -> Any:
        if out is not None and out.dtype != self.dtype:
            raise TypeError("Output dtype mismatch")
        return _result(self._array.take(_inner(indices), axis, _out(out)), out)

    def put(self, indices: Any, values: Any, mode: Any = "wrap") -> None:
        self._array.put(_inner(indices), _inner(values), mode)

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _result(self._array.sum(axis=axis, dtype=dtype, out=_out(out), keepdims=keepdims), out)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _result(self._array.max(axis=axis, out=_out(out), keepdims=keepdims), out)

    def argmax(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        assert dtype is None
        return _result(self._array.argmax(axis=axis, out=_out(out), keepdims=keepdims), out)

    def any(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _result(self._array.any(axis=axis, out=_out(out), keepdims=keepdims), out)

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Any:  # noqa: A002  CuPy's names
        return _result(self._array.clip(_inner(min), _inner(max), out=_out(out)), out)

    def set(self, arr: Any) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        self._array[...] = arr
        if _is_locked(arr):
            ON_THEIR_WAY.append((arr, arr.copy()))

    def get(self, out: Any) -> Any:
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if (self.dtype, self.shape) != (out.dtype, out.shape) or not out.flags.c_contiguous:
            raise ValueError(f"{self.dtype} {self.shape} cannot be obtained as {out.dtype} {out.shape}")
        _synchronize()
        np.copyto(out, self._array)
        return out


# Locked memory, and host arrays in it that a copy may still be reading, with what they held.
LOCKED: list[Any] = []
ON_THEIR_WAY: list[tuple[Any, Any]] = []


def _span(address: int, size: int) -> range:
    return range(address, address + size)


def _is_locked(array: Any) -> bool:
    return any(array.ctypes.data in _span(address, size) for address, size, _ in LOCKED)


def _zeros_pinned(shape: Any, dtype: Any = float) -> Any:
    memory = aligned_zeros(shape, dtype)
    LOCKED.append((memory.ctypes.data, memory.nbytes, memory))  # kept: nobody else gets its place
    return memory


def _host_register(address: int, size: int, flags: int) -> None:
    assert flags == 0
    assert address % 4096 == 0
    LOCKED.append((address, size, None))


def _synchronize() -> None:
    for array, before in ON_THEIR_WAY:
        assert array.tobytes() == before.tobytes(), "the host changed an array that was on its way to the device"
    ON_THEIR_WAY.clear()


def _ufunc(name: str) -> Any:
    function = getattr(np, name)

    def call(*arguments: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        options = {} if dtype is None else {"dtype": dtype}
        inner = [_inner(argument) for argument in arguments]
        return _result(function(*inner, out=_out(out), casting=casting, **options), out)

    return call


def _matmul(left: Any, right: Any, out: Any = None) -> Any:
    return _result(np.matmul(_inner(left), _inner(right), out=_out(out)), out)


def _copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
    assert where is None
    np.copyto(_out(dst), _inner(src), casting=casting)


def _empty(shape: Any, dtype: Any = float) -> ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64  # a GPU's memory is aligned, and the host's bits depend on it
    memory.fill(255)
    return ndarray(memory[start : start + size].view(dtype).reshape(shape))


def _get_device_properties(device: int) -> dict[str, Any]:
    assert device == 0
    return {"name": b"Stand-in"}


UFUNCS = (
    "abs add divide equal exp expm1 greater greater_equal less_equal log log1p maximum minimum multiply negative power "
    "reciprocal sign sqrt square subtract tanh"
)

cupy: Any = ModuleType("cupy")
vars(cupy).update({name: _ufunc(name) for name in UFUNCS.split()})
vars(cupy).update(
    __version__="13.3.0",
    ndarray=ndarray,
    matmul=_matmul,
    copyto=_copyto,
    empty=_empty,
    arange=lambda *arguments, dtype=None: ndarray(np.arange(*arguments, dtype=dtype)),
    asarray=lambda a, dtype=None: ndarray(np.array(_inner(a), dtype)),
    broadcast_to=lambda array, shape: ndarray(np.broadcast_to(_inner(array), shape)),
    count_nonzero=lambda a, axis=None: ndarray(np.asarray(np.count_nonzero(_inner(a), axis=axis))),
    sum=lambda a, axis=None, dtype=None, out=None, keepdims=False: a.sum(axis, dtype, out, keepdims),
    max=lambda a, axis=None, out=None, keepdims=False: a.max(axis, out, keepdims),
    argmax=lambda a, axis=None, dtype=None, out=None, keepdims=False: a.argmax(axis, out, dtype, keepdims),
    clip=lambda a, a_min, a_max, out=None: a.clip(a_min, a_max, out),
    take=lambda a, indices, axis=None, out=None: a.take(indices, axis, out),
    put=lambda a, ind, v, mode="wrap": a.put(ind, v, mode),
    cuda=SimpleNamespace(
        get_current_stream=lambda: SimpleNamespace(synchronize=_synchronize),
        runtime=SimpleNamespace(
            CUDARuntimeError=RuntimeError,
            getDeviceProperties=_get_device_properties,
            hostRegister=_host_register,
            runtimeGetVersion=lambda: 12060,
        ),
    ),
)
cupyx: Any = ModuleType("cupyx")
vars(cupyx).update(zeros_pinned=_zeros_pinned)
