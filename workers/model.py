"""From the parts of a job spec to the engine's objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from core import L2, Layer, Loss, Optimizer, from_spec

if TYPE_CHECKING:
    from workers.spec import JobSpec


def layers_of(spec: JobSpec) -> list[Layer]:
    """Layers of the job's model, from the features to the scores."""
    return [cast("Layer", from_spec("layer", layer.model_dump())) for layer in spec.model.layers]


def loss_of(spec: JobSpec) -> Loss:
    """The loss that the job minimises."""
    return cast("Loss", from_spec("loss", spec.loss.model_dump()))


def optimizer_of(spec: JobSpec) -> Optimizer:
    """The job's optimiser."""
    return cast("Optimizer", from_spec("optimizer", spec.optimizer.model_dump()))


def penalty_of(spec: JobSpec) -> L2:
    """The penalty on the job's weights."""
    return L2(spec.regularization.l2)
