"""Faults that depend on how a node is run: batch size, dtype, state, ties, rounding, and penalties."""

import numpy as np

from core import (
    L1,
    L2,
    Abs,
    BatchNorm,
    Concat,
    Dropout,
    ElasticNet,
    Embedding,
    Hinge,
    Linear,
    LogSoftmax,
    Max,
    Maxout,
    Multiply,
    ReLU,
    Select,
    Sigmoid,
    Slice,
    Softmax,
    Tanh,
)
from tests.core.gradcheck.planting import (
    FAULTS,
    Fault,
    below,
    folded,
    inside,
    joined,
    long,
    on_indices,
    penalized,
    plant,
    plant_slope,
    rescaled,
    shifted,
    squared,
    vanishing,
    wide,
    with_inputs,
)


# Batch sizes and other code paths
@plant("linear: the bias sums sixteen rows", Linear(units=5), "backward", inside)
def _(call):
    np.sum(call.upstream[:16], axis=0, out=call.out[2])


@plant("log softmax: batches above 4", LogSoftmax(), "backward", inside)
def _(call):
    call.out[0][4:] *= 1.01


@plant("linear: batches above 64", Linear(units=5), "backward", inside)
def _(call):
    call.out[1] *= 1.01 if len(call.upstream) > 64 else 1


@plant("softmax: a batch of one row", Softmax(), "backward", inside)
def _(call):
    call.out[0] *= 1.01 if len(call.upstream) == 1 else 1


@plant("sigmoid: an odd number of rows", Sigmoid(), "backward", inside)
def _(call):
    call.out[0][-1] *= 1.01 if len(call.upstream) % 2 else 1


@plant("linear: the transposed product for the inputs", Linear(units=128), "backward", wide)
def _(call):
    if "input_gradient" in call.work and call.out[0] is not None:
        call.out[0][:, -1] *= 1.01


@plant("linear: the transposed product for the weights", Linear(units=10), "backward", long)
def _(call):
    if "weight_gradient" in call.work:
        call.out[1][5] *= 1.01


# Single precision
@plant("linear: 1 % in float32", Linear(units=5), "backward", inside)
def _(call):
    if call.out[1].dtype == np.float32:
        call.out[1][2, 3] *= 1.01


@plant("tanh: forward off by 1e-3 in float32", Tanh(), "forward", inside)
def _(call):
    if call.output.dtype == np.float32:
        call.output *= 1.001


@plant("linear: half precision in float32", Linear(units=5), "backward", inside)
def _(call):
    if call.out[2].dtype == np.float32:
        call.out[2][...] = call.out[2].astype(np.float16)


# Indices and embeddings
@plant("embedding: one row of 20 off by 1 %", Embedding(entries=20, units=3), "backward", on_indices)
def _(call):
    call.out[1][17] *= 1.01


@plant("embedding: repeated indices are not added", Embedding(entries=20, units=3), "backward", on_indices)
def _(call):
    call.out[1].fill(0)
    call.out[1][call.work["indices"]] = call.upstream


@plant("embedding: the last row has no gradient", Embedding(entries=20, units=3), "backward", on_indices)
def _(call):
    call.out[1][-1] = 0


@plant("embedding: row 0 is padding", Embedding(entries=5, units=3), "backward", on_indices)
def _(call):
    call.out[1][0] = 0


# Ties and kinks
@plant("max: the whole gradient to each of several maxima", Max(axes=(2,)), "backward", folded)
def _(call):
    call.out[0][...] = call.node.expanded(call.upstream, call.out[0].shape) * (call.work["slope"] > 0)


@plant("maxout: ties in the last two pieces", Maxout(pieces=3), "backward", inside)
def _(call):
    call.out[0][...] = (call.upstream[..., None] * (call.work["slope"] > 0)).reshape(call.out[0].shape)


@plant("crammer-singer: the whole gradient to every tie", Hinge(form="crammer_singer"), "backward", below)
def _(call):
    others = call.work["slope"] > 0
    call.out[0][others] = np.broadcast_to(call.upstream[:, None], others.shape)[others]


@plant("abs: a slope of 5 at 0", with_inputs(Abs()), "backward", inside)
def _(call):
    call.out[0][call.inputs[0] == 0] = 5


# Slices
@plant("concat: off by one in the second part", Concat(), "backward", joined)
def _(call):
    if call.out[1] is not None:
        call.out[1][...] = call.upstream[:, 2:5]


@plant("slice: the element behind the end", Slice(start=1, stop=4), "backward", inside)
def _(call):
    call.out[0][:, 4] = call.upstream[:, -1]


@plant("select: the neighbour's gradient", Select(index=1), "backward", folded)
def _(call):
    call.out[0][...] = np.roll(call.out[0], 1, axis=1)


# Normalization and dropout
@plant("batch norm: no share of the mean", BatchNorm(), "backward", inside)
def _(call):
    if call.out[0] is not None:
        call.out[0] += 1e-3 * call.upstream.mean(axis=0)


@plant("batch norm: batches above 8", BatchNorm(), "backward", inside)
def _(call):
    call.out[1] *= 1.01 if len(call.upstream) > 8 else 1


@plant("batch norm: the running mean of one row", BatchNorm(), "backward", inside)
def _(call):
    call.out[3] /= len(call.upstream)


@plant("batch norm: the running variance without its factor", BatchNorm(), "backward", inside)
def _(call):
    call.out[4] *= 0.99


@plant("dropout: the other elements", Dropout(rate=0.5), "derivative", inside)
def _(call):
    call.out[...] = 2 - call.work["factor"]


@plant("dropout: no factor", Dropout(rate=0.25), "derivative", inside)
def _(call):
    call.out[...] = call.work["factor"] > 0


@plant("dropout: a rare element is not dropped", Dropout(rate=0.02), "derivative", inside)
def _(call):
    call.out.fill(1 / (1 - 0.02))


# State
class CachingTanh(Tanh):
    """Keeps its first output, as a cache that is never renewed."""

    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        first = vars(self).setdefault("first", output.copy())
        super().backward(xp, upstream, inputs, first if first.shape == output.shape else output, workspace, gradients)


FAULTS.append(Fault("tanh: backward of the first batch in all later ones", inside(Tanh()), inside(CachingTanh())))


class ScalingTanh(Tanh):
    """Divides by the largest input of its first batch."""

    def forward(self, xp, inputs, output, workspace):
        super().forward(xp, inputs, output, workspace)
        output /= vars(self).setdefault("largest", float(np.abs(inputs[0]).max(initial=1)))

    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        whole = output * vars(self)["largest"]
        super().backward(xp, upstream, inputs, whole, workspace, gradients)
        gradients[0] /= vars(self)["largest"]


FAULTS.append(Fault("tanh: scaled by its first batch", inside(Tanh()), inside(ScalingTanh())))


class AddingTanh(Tanh):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0] += upstream * (1 - output**2)


FAULTS.append(Fault("tanh: adds to the gradient", inside(Tanh()), inside(AddingTanh())))


@plant("relu: writes its output's buffer", ReLU(), "backward", inside)
def _(call):
    call.output *= 0


@plant("relu: negates its input", ReLU(), "forward", inside)
def _(call):
    np.negative(call.inputs[0], out=call.inputs[0])


@plant("relu: large upstream gradients are cut", ReLU(), "backward", inside)
def _(call):
    np.clip(call.out[0], -50, 50, out=call.out[0])


@plant("relu: tiny upstream gradients are dropped", ReLU(), "backward", inside)
def _(call):
    call.out[0][np.abs(call.out[0]) < 1e-7] = 0


# Rounding that hides an error
plant_slope("tanh: 1 % behind a scale of 1e8", Tanh(), 1.01, rescaled)
plant_slope("tanh: 1e-6 behind a large offset", Tanh(), 1 + 1e-6, shifted)
plant_slope("tanh: 1e-6 before sigmoids", Tanh(), 1 + 1e-6, vanishing)


# Penalties
@plant("L2: the gradient lacks the factor 2", L2(weight=0.1), "add_gradient", penalized)
def _(call):
    call.gradients -= 0.1 * call.parameters


@plant("L1: 1 % for negative weights", L1(weight=0.1), "add_gradient", penalized)
def _(call):
    call.gradients[call.parameters < 0] -= 0.001


@plant("elastic net: the parts are exchanged", ElasticNet(l1=0.1, l2=0.2), "add_gradient", penalized)
def _(call):
    call.gradients += 0.1 * np.sign(call.parameters) - 0.2 * call.parameters


@plant("L2: the gradient is written, not added", L2(weight=0.1), "add_gradient", penalized)
def _(call):
    call.gradients[...] = 0.2 * call.parameters


@plant("multiply: f(x, x) counted once", Multiply(), "backward", squared)
def _(call):
    if call.inputs[0].ctypes.data == call.inputs[1].ctypes.data:
        call.out[1].fill(0)
