"""From the parts of a job spec to the engine's objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from core import L1, L2, Clipping, ElasticNet, Loss, Optimizer, Part, Penalty, from_spec, part_from_spec

if TYPE_CHECKING:
    from workers.spec import JobSpec


def layers_of(spec: JobSpec) -> list[Part]:
    """Layers of the job's model, from the features to the scores."""
    return [part_from_spec(layer.model_dump()) for layer in spec.model.layers]


def loss_of(spec: JobSpec) -> Loss:
    """The loss that the job minimises."""
    return cast("Loss", from_spec("loss", spec.loss.model_dump()))


def optimizer_of(spec: JobSpec) -> Optimizer:
    """The job's optimiser."""
    return cast("Optimizer", from_spec("optimizer", spec.optimizer.model_dump()))


def penalty_of(spec: JobSpec) -> Penalty | None:
    """The penalty on the job's weights, in the form with the fewest passes over them."""
    l1, l2 = spec.regularization.l1, spec.regularization.l2
    if l1 and l2:
        return ElasticNet(l1, l2)
    if l1:
        return L1(l1)
    return L2(l2) if l2 else None


def clipping_of(spec: JobSpec) -> Clipping | None:
    """The limit on the job's gradients."""
    clipping = spec.training.clipping
    return cast("Clipping", from_spec("clipping", clipping.model_dump())) if clipping is not None else None
