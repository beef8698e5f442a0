"""A job's trained model, from its newest checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from core import ParameterLayout, Plan, build_classifier
from workers.data.scaling import Scaling
from workers.job.spec import JobSpec
from workers.record.checkpoint import BEST, MODEL, CheckpointError, computation_sha256, latest, verify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from core import Graph
    from workers.data.dataset import DatasetInfo


@dataclass(frozen=True)
class TrainedModel:
    """The graph of a model, its flat vector of parameters after `step`, and how its rows are scaled, if so."""

    graph: Graph
    layout: ParameterLayout
    parameters: NDArray[Any]
    scaling: Scaling | None
    step: int

    def plan(self, rows: int) -> Plan:
        """The forward pass of so many rows, to "scores"."""
        return Plan(self.graph, ["scores"], batch=rows, layout=self.layout, parameters=self.parameters, backward=False)


def load_trained_model(
    directory: Path, job: str, spec: Mapping[str, Any], dataset: DatasetInfo, *, last: bool = False
) -> TrainedModel:
    """Load the best parameters where the newest checkpoint in a job's directory has such, otherwise its last.

    With `last`, load its last parameters in any case.

    Raises CheckpointError where there is none, or it is not whole or not the job's.
    """
    place = latest(directory)
    if place is None:
        raise CheckpointError("there is no checkpoint")
    header = verify(place, job, computation_sha256(spec, dataset.digest))
    best = None if last else header["best"]
    tensors = load_file(place / (MODEL if best is None else BEST))
    graph = build_classifier(JobSpec.model_validate(spec).model.layers, dataset.features)
    layout = ParameterLayout(graph.parameters())
    parameters = np.zeros(layout.size, np.float32)
    for name, view in layout.views(parameters).items():
        np.copyto(view, tensors[name])
    scaling = Scaling(tensors["inputs.mean"], tensors["inputs.deviation"]) if "inputs.mean" in tensors else None
    return TrainedModel(graph, layout, parameters, scaling, (best or header)["step"])
