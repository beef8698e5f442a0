"""The engine: computational graphs on NumPy arrays, compiled into plans that allocate nothing while they run.

No Ray, no files, no network. Layers, losses, optimizers and so on are declared one class per file in the folder of
their kind. Each can be imported from here by its class name, and is found by its type name with `registered` and
`from_spec`.
"""

from typing import Any

# Importing a family registers its classes.
from core import (  # noqa: F401
    augmentations,
    blocks,
    clippings,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    penalties,
    schedules,
)
from core.arrays import Array, Namespace, aligned_empty, aligned_zeros
from core.augmentations.base import Augmentation
from core.clippings.base import Clipping
from core.drawing.dot import to_dot
from core.drawing.mermaid import to_mermaid
from core.drawing.svg import to_svg
from core.graph.block import Block
from core.graph.checks import check_inputs
from core.graph.classifier import LABELLED, build_classifier, loss_weights, reads_images, with_loss
from core.graph.entries import Entry, Head, ModelError, entry_from_spec
from core.graph.graph import BATCH, Graph, GraphError
from core.graph.multipliers import Multipliers
from core.graph.node import Layer, Loss, Node, ParameterDeclaration, Task
from core.graph.recurrence import unroll
from core.graph.table import summary
from core.initializers.base import Initializer
from core.metrics.base import LossMetric, Metric, RankingMetric, Tally, TallyMetric, TargetMetric
from core.model import Model, split_tensors
from core.optimizers.base import Optimizer, Step
from core.penalties.base import Penalty
from core.plan.indices import IndexCheck, InvalidIndexError
from core.plan.layout import ParameterLayout, initialize
from core.plan.plan import Plan
from core.plan.program import Program
from core.plan.statistics import update_statistics
from core.random import Purpose, RandomKey, generator
from core.registry import Registered, classes, from_spec, hyperparameter, registered, to_spec
from core.schedules.base import Schedule

__all__ = [
    "BATCH",
    "LABELLED",
    "Array",
    "Augmentation",
    "Block",
    "Clipping",
    "Entry",
    "Graph",
    "GraphError",
    "Head",
    "IndexCheck",
    "Initializer",
    "InvalidIndexError",
    "Layer",
    "Loss",
    "LossMetric",
    "Metric",
    "Model",
    "ModelError",
    "Multipliers",
    "Namespace",
    "Node",
    "Optimizer",
    "ParameterDeclaration",
    "ParameterLayout",
    "Penalty",
    "Plan",
    "Program",
    "Purpose",
    "RandomKey",
    "RankingMetric",
    "Registered",
    "Schedule",
    "Step",
    "Tally",
    "TallyMetric",
    "TargetMetric",
    "Task",
    "aligned_empty",
    "aligned_zeros",
    "build_classifier",
    "check_inputs",
    "entry_from_spec",
    "from_spec",
    "generator",
    "hyperparameter",
    "initialize",
    "loss_weights",
    "reads_images",
    "registered",
    "split_tensors",
    "summary",
    "to_dot",
    "to_mermaid",
    "to_spec",
    "to_svg",
    "unroll",
    "update_statistics",
    "with_loss",
]
_registered = {cls.__name__: cls for cls in classes()}
# Whatever is registered is public, so the names are not written down here.
__all__ += sorted(_registered)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _registered:
        return _registered[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
