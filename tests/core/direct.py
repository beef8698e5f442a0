"""Nodes called directly, without a plan, for tests that look at single values."""

import numpy as np


def evaluate(node, *inputs, upstream=1.0, dtype=np.float64, noise=None):
    """Return a node's value, and what backward writes for each float input and parameter."""
    inputs = [np.asarray(each) for each in inputs]
    inputs = [each if each.dtype.kind == "i" else each.astype(dtype) for each in inputs]
    data = len(inputs) - len(node.parameters(*(each.shape for each in inputs)))
    shapes = [each.shape for each in inputs[:data]]
    output = np.full(node.infer(*shapes), np.nan, dtype)
    kinds = {"float": dtype, "scratch": dtype, "integer": np.int64, "noise": np.float32}
    workspace = {name: np.zeros(shape, kinds[kind]) for name, (shape, kind) in node.workspace(*shapes).items()}
    if noise is not None:
        workspace["noise"][...] = noise
    node.forward(np, inputs, output, workspace)
    value = output.copy()
    gradients = [np.full(each.shape, np.nan, dtype) if each.dtype.kind == "f" else None for each in inputs]
    upstream = np.broadcast_to(np.asarray(upstream, dtype), output.shape)
    node.backward(np, upstream, inputs, output, workspace, gradients)
    return value, *(each for each in gradients if each is not None)
