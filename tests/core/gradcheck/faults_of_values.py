"""Faults that depend on values: a class, a side of a threshold, a constant, an entry."""

import numpy as np

from core import (
    ELU,
    GELU,
    Abs,
    BinaryMargin,
    Exp,
    HardTanh,
    Hinge,
    Huber,
    LayerNorm,
    LeakyReLU,
    Linear,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SigmoidCrossEntropy,
    SmoothL1,
    SoftMargin,
    SoftmaxCrossEntropy,
    Softplus,
    Softshrink,
    Softsign,
    SquaredError,
    Swish,
    Tanh,
    WeightedSum,
)
from tests.core.gradcheck.planting import (
    FAULTS,
    Fault,
    below,
    inside,
    long,
    on_four,
    on_one_score,
    plant,
    plant_slope,
    with_inputs,
)


# One class
@plant("softmax: one class of ten off by 1 %", SoftmaxCrossEntropy(), "backward", below)
def _(call):
    if call.out[0] is not None:
        call.out[0][call.work["positions"] % 10 == 7] *= 1.01


@plant("hinge: the last class has no gradient", with_inputs(Hinge()), "backward", below)
def _(call):
    call.out[0][call.inputs[1] == 9] = 0


@plant("softmax: a column of one class is swapped in sign", with_inputs(SoftmaxCrossEntropy()), "backward", below)
def _(call):
    call.out[0][call.inputs[1] == 4, 4] *= -1


WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5)


@plant("softmax: one class's weight twice", with_inputs(SoftmaxCrossEntropy(class_weights=WEIGHTS)), "backward", below)
def _(call):
    call.out[0] *= np.where(call.inputs[1] == 9, 0.5, 1)[:, None]


@plant("softmax: label smoothing's share with K - 1", SoftmaxCrossEntropy(label_smoothing=0.1), "backward", below)
def _(call):
    call.out[0] += call.upstream[:, None] * (0.1 / 10 - 0.1 / 9)


@plant("softmax: no gradient where the label is far behind", with_inputs(SoftmaxCrossEntropy()), "backward", below)
def _(call):
    scores, labels = call.inputs
    call.out[0][scores.max(axis=1) - scores[np.arange(len(labels)), labels] > 20] = 0


class WrongSum(WeightedSum):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        unweighted = WeightedSum(losses=self.losses, weights=(1.0, 1.0))
        unweighted.backward(xp, upstream, inputs, output, workspace, gradients)


PARTS = (SoftmaxCrossEntropy(), SigmoidCrossEntropy())
FAULTS.append(
    Fault(
        "weighted sum: the second weight is left out",
        below(WeightedSum(losses=PARTS, weights=(1.0, 0.999))),
        below(WrongSum(losses=PARTS, weights=(1.0, 0.999))),
    )
)


# One side of a threshold
@plant("hinge squared: wrong for terms above 30", Hinge(squared=True), "backward", below)
def _(call):
    call.out[0][call.work["slope"] > 60] *= 0.5


@plant("huber: wrong beyond delta", with_inputs(Huber(delta=25.0)), "backward", on_four)
def _(call):
    call.out[0][np.abs(call.inputs[0] - call.inputs[1]) > 25] *= 2


@plant("smooth L1: wrong sign far below", with_inputs(SmoothL1(beta=20.0)), "backward", on_four)
def _(call):
    call.out[0][call.inputs[0] - call.inputs[1] < -20] *= -1


@plant("sigmoid cross-entropy: saturated scores", with_inputs(SigmoidCrossEntropy()), "backward", below)
def _(call):
    call.out[0][call.inputs[0] < -15] = 1e-4


@plant("soft margin: 1 % in the tail", with_inputs(SoftMargin()), "backward", on_one_score)
def _(call):
    call.out[0][call.inputs[0] > 9] *= 1.01


@plant("binary margin: beyond a margin of 12", with_inputs(BinaryMargin(margin=12.0)), "backward", on_one_score)
def _(call):
    call.out[0][(call.inputs[0] > 12) & (call.inputs[1][:, None] == 1)] = -0.01


@plant("relu: a slope of 0.01 for negative inputs", with_inputs(ReLU()), "backward", inside)
def _(call):
    call.out[0] += 0.01 * call.upstream * (call.inputs[0] < 0)


@plant("relu6: not cut above 6", with_inputs(ReLU6()), "backward", inside)
def _(call):
    call.out[0][...] = call.upstream * (call.inputs[0] > 0)


@plant("hard tanh: a slope below -1", with_inputs(HardTanh()), "backward", inside)
def _(call):
    call.out[0] += 0.1 * call.upstream * (call.inputs[0] < -4)


@plant("softshrink: never above its threshold", Softshrink(threshold=50.0), "backward", inside)
def _(call):
    call.out[0].fill(0)


plant_slope("leaky relu: far below 0", LeakyReLU(), lambda x: np.where(x < -30, 1.01, 1))
plant_slope("tanh: 1 % beyond 4", Tanh(), lambda x: np.where(np.abs(x) > 4, 1.01, 1))
plant_slope("tanh: no slope beyond 9", Tanh(), lambda x: np.where(np.abs(x) > 9, 0, 1))
plant_slope("sigmoid: no slope below -12", Sigmoid(), lambda x: np.where(x < -12, 0, 1))
plant_slope("softplus: 1 above 5", Softplus(), lambda x: np.where(x > 5, 1 + np.exp(-np.maximum(x, 5)), 1))
plant_slope("softplus: no slope below -10", Softplus(), lambda x: np.where(x < -10, 0, 1))
plant_slope("softplus: 1 % beyond 25", Softplus(), lambda x: np.where(x > 25, 1.01, 1))
plant_slope("elu: 10 % below -8", ELU(), lambda x: np.where(x < -8, 1.1, 1))
plant_slope("gelu: 0.1 % above 6", GELU(), lambda x: np.where(x > 6, 1.001, 1))
plant_slope("softsign: beyond 20", Softsign(), lambda x: np.where(np.abs(x) > 20, 1.01, 1))
plant_slope("exp: wrong for very negative inputs", Exp(), lambda x: np.where(x < -7, 0.9, 1))
plant_slope("abs: wrong below -10", Abs(), lambda x: np.where(x < -10, 0.5, 1))

# Constants, and single entries
plant_slope("swish: a constant off by 1e-6", Swish(), 1 + 1e-6)
plant_slope("tanh: a constant off by 1e-8", Tanh(), 1 + 1e-8)
plant_slope("sigmoid: computed in single precision", Sigmoid(), float(np.float32(1 / 3)) * 3)


@plant("tanh: no gradient of the last feature", Tanh(), "backward", inside)
def _(call):
    call.out[0][:, -1] = 0


@plant("linear: one of 7840 weights off by 1 %", Linear(units=10), "backward", long)
def _(call):
    call.out[1][611, 7] *= 1.01


@plant("linear: the last row of weights is left out", Linear(units=5), "backward", inside)
def _(call):
    call.out[1][-1] = 0


@plant("linear: bias gradient of the first row alone", Linear(units=5), "backward", inside)
def _(call):
    call.out[2][...] = call.upstream[0]


@plant("prelu: the slope's gradient is a mean", PReLU(), "backward", inside)
def _(call):
    call.out[1] /= len(call.upstream)


@plant("layer norm: the last feature's scale", LayerNorm(), "backward", inside)
def _(call):
    call.out[1][-1] *= 1.01


@plant("squared error: half the gradient of the targets", SquaredError(), "backward", on_four)
def _(call):
    if call.out[1] is not None:
        call.out[1] *= 0.5
