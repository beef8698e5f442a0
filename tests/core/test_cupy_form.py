"""Tests without a GPU that every node runs on CuPy: on a stand-in with only those functions that CuPy has."""

import numpy as np
import pytest

from core import Plan, Program, RandomKey
from tests.core.test_contract import draw, every_node, graph_of
from tests.fixtures.cupy_stand_in import cupy


def passes(case, xp, dtype):
    """Return the values and gradients of a forward and a backward pass."""
    names = [f"input{index}" for index in range(len(case.inputs))]
    graph = graph_of(case, names)
    plan = Plan(
        Program.compile(graph, ("node",), wrt=[name for name in names if not graph.inputs[name].integer], dtype=dtype),
        xp=xp,
    )
    inputs = draw(case, 3, dtype)
    places = [*plan.inputs.values(), *plan.layout.views(plan.parameters).values()]
    for place, array in zip(places, inputs, strict=True):
        if xp is np:
            place[...] = array
        else:
            place.set(array)
    plan.forward(RandomKey(1))
    plan.backward({"node": 1.0})
    results = [plan.value("node"), plan.gradients, *(plan.gradient(name) for name in plan.program.wrt)]
    return [on_the_host(each) for each in results]


def on_the_host(array):
    return array.copy() if isinstance(array, np.ndarray) else array.get(out=np.empty(array.shape, array.dtype))


@every_node
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_on_device_and_host_are_bitwise_equal(case, dtype):
    for on_device, on_host in zip(passes(case, cupy, dtype), passes(case, np, dtype), strict=True):
        assert on_device.tobytes() == on_host.tobytes()


def test_stand_in_raises_for_mixed_arrays():
    host, device = np.ones(3, np.float32), cupy.empty((3,), np.float32)
    device.fill(1)
    mixtures = [
        lambda: cupy.add(device, host),
        lambda: cupy.add(device, 1, out=host),
        lambda: np.add(host, 1, out=device),
        lambda: host + device,
        lambda: device + host,
        lambda: np.sum(device),
        lambda: np.asarray(device),
        lambda: host.__setitem__(slice(None), device),
        lambda: device.__setitem__(slice(None), host),
        lambda: cupy.copyto(device, host),
        lambda: np.copyto(host, device),
        lambda: cupy.matmul(device, host),
        lambda: device.set(device),
        lambda: device.get(out=device),
    ]
    for mix in mixtures:
        with pytest.raises((TypeError, ValueError)):
            mix()
    with pytest.raises(TypeError, match="mode"):
        cupy.take(device, device, out=device, mode="clip")
    with pytest.raises(AttributeError):
        cupy.add.at(device, device, device)
