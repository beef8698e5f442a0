"""The engine: computational graphs on NumPy arrays, compiled into plans that allocate nothing while they run.

No Ray, no files, no network. Layers, losses, optimizers and so on are declared one per file in the packages below, and
found by name with `registered` and `from_spec`.
"""

from core.arrays import Array, Namespace, aligned_empty, aligned_zeros
from core.graph import BATCH, Graph, GraphError
from core.initializers import Initializer
from core.initializers.he import He
from core.initializers.zeros import Zeros
from core.layers.linear import Linear
from core.layers.relu import ReLU
from core.layers.sigmoid import Sigmoid
from core.layout import ParameterLayout, initialize
from core.losses.absolute_error import AbsoluteError
from core.losses.hinge import Hinge
from core.losses.softmax import SoftmaxCrossEntropy
from core.losses.squared_error import SquaredError
from core.model import build_classifier, with_loss
from core.node import Layer, Loss, Node, ParameterDeclaration
from core.nodes.add import Add
from core.nodes.exp import Exp
from core.nodes.multiply import Multiply
from core.nodes.reciprocal import Reciprocal
from core.nodes.scale import Scale
from core.nodes.shift import Shift
from core.nodes.subtract import Subtract
from core.optimizers import Optimizer
from core.optimizers.sgd import SGD
from core.penalties import L2
from core.plan import Plan
from core.random import Purpose, generator
from core.registry import Registered, from_spec, hyperparameter, registered, to_spec
from core.schedules import Schedule
from core.schedules.constant import Constant
from core.schedules.cosine import Cosine

__all__ = [
    "BATCH",
    "L2",
    "SGD",
    "AbsoluteError",
    "Add",
    "Array",
    "Constant",
    "Cosine",
    "Exp",
    "Graph",
    "GraphError",
    "He",
    "Hinge",
    "Initializer",
    "Layer",
    "Linear",
    "Loss",
    "Multiply",
    "Namespace",
    "Node",
    "Optimizer",
    "ParameterDeclaration",
    "ParameterLayout",
    "Plan",
    "Purpose",
    "ReLU",
    "Reciprocal",
    "Registered",
    "Scale",
    "Schedule",
    "Shift",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "SquaredError",
    "Subtract",
    "Zeros",
    "aligned_empty",
    "aligned_zeros",
    "build_classifier",
    "from_spec",
    "generator",
    "hyperparameter",
    "initialize",
    "registered",
    "to_spec",
    "with_loss",
]
