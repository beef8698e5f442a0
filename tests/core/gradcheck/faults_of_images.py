"""Faults of the layers of images and sequences."""

import numpy as np

from core import (
    LRN,
    AveragePool2d,
    ChannelDropout,
    Conv1d,
    Conv2d,
    Conv2dTranspose,
    Crop,
    Flatten,
    Linear,
    MaxPool2d,
    Reshape,
    SoftmaxCrossEntropy,
    Upsample,
    ZeroPad,
)
from tests.core.gradcheck.planting import Network, plant, with_inputs


def on_images(layer):
    """A layer on images of 3 x 4 pixels with two channels."""
    layers = [Linear(units=24), Reshape(shape=(3, 4, 2)), layer, Flatten(), Linear(units=3)]
    return Network(layers, SoftmaxCrossEntropy())


def on_sequences(layer):
    """A layer on sequences of length 6 with two channels."""
    layers = [Linear(units=12), Reshape(shape=(6, 2)), layer, Flatten(), Linear(units=3)]
    return Network(layers, SoftmaxCrossEntropy())


@plant("conv2d: no gradient of the last pixel", Conv2d(filters=2, kernel=2), "backward", on_images)
def _(call):
    if call.out[0] is not None:
        call.out[0][:, -1, -1] = 0


@plant("conv2d: weights of the first group", Conv2d(filters=2, kernel=2, groups=2), "backward", on_images)
def _(call):
    call.out[1][..., 1] = call.out[1][..., 0]


@plant("conv1d: every second bias gradient", Conv1d(filters=2, kernel=3, stride=2), "backward", on_sequences)
def _(call):
    call.out[2][1::2] = 0


@plant(
    "transposed convolution: 1 % of a border",
    Conv2dTranspose(filters=2, kernel=3, stride=2, padding="same"),
    "backward",
    on_images,
)
def _(call):
    if call.out[0] is not None:
        call.out[0][:, 0] *= 1.01


@plant("max pooling: the whole gradient to every tie", with_inputs(MaxPool2d(kernel=(3, 4))), "backward", on_images)
def _(call):
    call.out[0][...] = call.upstream * (call.inputs[0] == call.inputs[0].max(axis=(1, 2), keepdims=True))


@plant("average pooling: divided without padding", AveragePool2d(kernel=2, padding=1), "backward", on_images)
def _(call):
    call.out[0][:, 0] *= 2


@plant("lrn: no share of the neighbours", LRN(size=3, alpha=1.0), "backward", on_images)
def _(call):
    call.out[0][...] = call.upstream * call.work["factor"]


@plant("lrn: 1 % of a channel", LRN(size=3, alpha=1.0, region="within_channel"), "backward", on_images)
def _(call):
    call.out[0][..., 1] *= 1.01


@plant("channel dropout: the factor of the other channel", ChannelDropout(), "derivative", on_images)
def _(call):
    call.out[...] = call.work["factor"][..., ::-1]


@plant("upsampling: the mean of the copies", Upsample(factor=2), "backward", on_images)
def _(call):
    call.out[0][...] /= 4


@plant("linear upsampling: a border is not repeated", Upsample(factor=2, mode="linear"), "backward", on_images)
def _(call):
    call.out[0][:, 0] -= np.float32(0.01) * call.upstream[:, 0, ::2]


@plant("zero padding: moved by a row", ZeroPad(padding=1), "backward", on_images)
def _(call):
    call.out[0][...] = call.upstream[:, :-2, 1:-1]


@plant("crop: the margin has a gradient", Crop(margin=1), "backward", on_images)
def _(call):
    call.out[0][:, 0, 1:-1] = call.upstream[:, 0]
