"""The engine: computational graphs on NumPy arrays, compiled into plans that allocate nothing while they run.

No Ray, no files, no network. Layers, losses, optimizers and so on are declared one per file in the packages below, and
found by name with `registered` and `from_spec`.
"""

from core.arrays import Array, Namespace, aligned_empty, aligned_zeros
from core.augmentation import Augmentation, RandomCrop, RandomFlip, RandomShift
from core.checks import check_inputs
from core.clipping import Clipping, NormClipping, ValueClipping
from core.graph import BATCH, Graph, GraphError
from core.initializers import Initializer
from core.initializers.constant import ConstantInitializer
from core.initializers.glorot import Glorot
from core.initializers.glorot_uniform import GlorotUniform
from core.initializers.he import He
from core.initializers.he_uniform import HeUniform
from core.initializers.lecun import LeCun
from core.initializers.lecun_uniform import LeCunUniform
from core.initializers.normal import Normal
from core.initializers.uniform import Uniform
from core.initializers.zeros import Zeros
from core.layers.batch_norm import BatchNorm
from core.layers.bias import Bias
from core.layers.dropout import Dropout
from core.layers.elu import ELU
from core.layers.embedding import Embedding
from core.layers.flatten import Flatten
from core.layers.gelu import GELU
from core.layers.hard_tanh import HardTanh
from core.layers.identity import Identity
from core.layers.layer_norm import LayerNorm
from core.layers.leaky_relu import LeakyReLU
from core.layers.linear import Linear
from core.layers.log_sigmoid import LogSigmoid
from core.layers.log_softmax import LogSoftmax
from core.layers.maxout import Maxout
from core.layers.one_hot import OneHot
from core.layers.prelu import PReLU
from core.layers.relu import ReLU
from core.layers.relu6 import ReLU6
from core.layers.reshape import Reshape
from core.layers.select import Select
from core.layers.sigmoid import Sigmoid
from core.layers.slice import Slice
from core.layers.softmax import Softmax
from core.layers.softplus import Softplus
from core.layers.softshrink import Softshrink
from core.layers.softsign import Softsign
from core.layers.swish import Swish
from core.layers.tanh import Tanh
from core.layout import ParameterLayout, initialize
from core.losses.absolute_error import AbsoluteError
from core.losses.binary_margin import BinaryMargin
from core.losses.hinge import Hinge
from core.losses.huber import Huber
from core.losses.mean_squared_error import MeanSquaredError
from core.losses.sigmoid_cross_entropy import SigmoidCrossEntropy
from core.losses.smooth_l1 import SmoothL1
from core.losses.soft_margin import SoftMargin
from core.losses.softmax import SoftmaxCrossEntropy
from core.losses.squared_error import SquaredError
from core.losses.weighted_sum import WeightedSum
from core.model import MODEL_KINDS, ModelError, Part, build_classifier, part_from_spec, with_loss
from core.node import Layer, Loss, Node, ParameterDeclaration
from core.nodes.abs import Abs
from core.nodes.add import Add
from core.nodes.concat import Concat
from core.nodes.exp import Exp
from core.nodes.log import Log
from core.nodes.max import Max
from core.nodes.mean import Mean
from core.nodes.multiply import Multiply
from core.nodes.power import Power
from core.nodes.reciprocal import Reciprocal
from core.nodes.scale import Scale
from core.nodes.shift import Shift
from core.nodes.sqrt import Sqrt
from core.nodes.square import Square
from core.nodes.subtract import Subtract
from core.nodes.sum import Sum
from core.optimizers import Optimizer
from core.optimizers.adagrad import Adagrad
from core.optimizers.adam import Adam
from core.optimizers.adamw import AdamW
from core.optimizers.rmsprop import RMSProp
from core.optimizers.sgd import SGD
from core.penalties import Penalty
from core.penalties.elastic_net import ElasticNet
from core.penalties.l1 import L1
from core.penalties.l2 import L2
from core.picture import to_dot, to_mermaid
from core.plan import Plan
from core.random import Purpose, RandomKey, generator
from core.recurrence import unroll
from core.registry import Registered, from_spec, hyperparameter, registered, to_spec
from core.schedules import Schedule
from core.schedules.constant import Constant
from core.schedules.cosine import Cosine
from core.schedules.exponential import ExponentialDecay
from core.schedules.inverse import InverseDecay
from core.schedules.step import StepDecay
from core.schedules.warmup import Warmup
from core.statistics import update_statistics
from core.svg import to_svg
from core.table import summary

__all__ = [
    "BATCH",
    "ELU",
    "GELU",
    "L1",
    "L2",
    "MODEL_KINDS",
    "SGD",
    "Abs",
    "AbsoluteError",
    "Adagrad",
    "Adam",
    "AdamW",
    "Add",
    "Array",
    "Augmentation",
    "BatchNorm",
    "Bias",
    "BinaryMargin",
    "Clipping",
    "Concat",
    "Constant",
    "ConstantInitializer",
    "Cosine",
    "Dropout",
    "ElasticNet",
    "Embedding",
    "Exp",
    "ExponentialDecay",
    "Flatten",
    "Glorot",
    "GlorotUniform",
    "Graph",
    "GraphError",
    "HardTanh",
    "He",
    "HeUniform",
    "Hinge",
    "Huber",
    "Identity",
    "Initializer",
    "InverseDecay",
    "Layer",
    "LayerNorm",
    "LeCun",
    "LeCunUniform",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogSigmoid",
    "LogSoftmax",
    "Loss",
    "Max",
    "Maxout",
    "Mean",
    "MeanSquaredError",
    "ModelError",
    "Multiply",
    "Namespace",
    "Node",
    "NormClipping",
    "Normal",
    "OneHot",
    "Optimizer",
    "PReLU",
    "ParameterDeclaration",
    "ParameterLayout",
    "Part",
    "Penalty",
    "Plan",
    "Power",
    "Purpose",
    "RMSProp",
    "RandomCrop",
    "RandomFlip",
    "RandomKey",
    "RandomShift",
    "ReLU",
    "ReLU6",
    "Reciprocal",
    "Registered",
    "Reshape",
    "Scale",
    "Schedule",
    "Select",
    "Shift",
    "Sigmoid",
    "SigmoidCrossEntropy",
    "Slice",
    "SmoothL1",
    "SoftMargin",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Sqrt",
    "Square",
    "SquaredError",
    "StepDecay",
    "Subtract",
    "Sum",
    "Swish",
    "Tanh",
    "Uniform",
    "ValueClipping",
    "Warmup",
    "WeightedSum",
    "Zeros",
    "aligned_empty",
    "aligned_zeros",
    "build_classifier",
    "check_inputs",
    "from_spec",
    "generator",
    "hyperparameter",
    "initialize",
    "part_from_spec",
    "registered",
    "summary",
    "to_dot",
    "to_mermaid",
    "to_spec",
    "to_svg",
    "unroll",
    "update_statistics",
    "with_loss",
]
