"""A job's trained model, from its newest checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load_file

from core import Model, split_tensors
from core.kernels.gather import gather
from core.tables.preparation import Preparation, Preparer
from workers.data.scaling import Scaling
from workers.job.preparation import treatments_of
from workers.job.spec import JobSpec
from workers.record.checkpoint import BEST, MODEL, CheckpointError, computation_sha256, latest, verify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from core import Array
    from workers.data.dataset import DatasetInfo


@dataclass(frozen=True)
class TrainedModel:
    """A model with the parameters after `step`, and how its rows and its targets are scaled or prepared, if so."""

    model: Model
    scaling: Scaling | None
    target_scaling: Scaling | None
    step: int
    preparer: Preparer | None = None

    def load(self, features: Array, rows: Array, out: Array) -> None:
        """Write some rows of a dataset into `out` as the model reads them."""
        if self.preparer is not None:
            self.preparer.load(features, rows, out)
        else:
            gather(features, rows, out, None if self.scaling is None else (self.scaling.mean, self.scaling.deviation))

    @property
    def outputs(self) -> int:
        """The number of scores or values that it predicts for a row."""
        return int(self.model.graph.shapes()["scores"][1])


def load_trained_model(
    directory: Path, job: str, spec: Mapping[str, Any], dataset: DatasetInfo, *, last: bool = False
) -> TrainedModel:
    """Load the best parameters where the newest checkpoint in a job's directory has such, otherwise its last.

    With `last`, load its last parameters in any case.

    Raises CheckpointError if there is none, or it is damaged or belongs to another job.
    """
    place = latest(directory)
    if place is None:
        raise CheckpointError("there is no checkpoint")
    header = verify(place, job, computation_sha256(spec, dataset.digest))
    best = None if last else header["best"]
    tensors, preparation = split_tensors(load_file(place / (MODEL if best is None else BEST)))
    job_spec = JobSpec.model_validate(spec)
    model = Model(job_spec.model.graph())
    try:
        model.load(tensors)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {place.name} is of another model: {error}") from error
    scaling, target_scaling = (_scaling(preparation, prefix) for prefix in ("", "target_"))
    treatments = treatments_of(job_spec.data, dataset.columns)
    preparer = Preparer(Preparation.of(treatments, preparation)) if treatments else None
    return TrainedModel(model, None if treatments else scaling, target_scaling, (best or header)["step"], preparer)


def _scaling(preparation: Mapping[str, Array], prefix: str) -> Scaling | None:
    if f"{prefix}mean" not in preparation:
        return None
    return Scaling(preparation[f"{prefix}mean"], preparation[f"{prefix}deviation"])
