"""The job spec: what a user posts, as pydantic models built from the engine's registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from core import Augmentation, Clipping, Loss, Optimizer, Part, Penalty, registered
from core.penalties.elastic_net import ElasticNet
from core.penalties.l1 import L1
from core.penalties.l2 import L2
from workers.data.splitting import Blocks
from workers.job.fields import AllowedText, StrictModel, layer_union, spec_union

if TYPE_CHECKING:
    LayerSpec: TypeAlias = Part
    LossSpec: TypeAlias = Loss
    OptimizerSpec: TypeAlias = Optimizer
    ClippingSpec: TypeAlias = Clipping
    AugmentationSpec: TypeAlias = Augmentation
else:
    LayerSpec = layer_union()
    # A classifier is trained on labels; the losses of real targets have no place here.
    LossSpec = spec_union("loss", tuple(name for name, loss in registered("loss").items() if loss.target == "labels"))
    OptimizerSpec = spec_union("optimizer")
    ClippingSpec = spec_union("clipping")
    AugmentationSpec = spec_union("augmentation")

Name = Annotated[str, AllowedText, Field(min_length=1, max_length=200)]
# MLflow refuses a slash and a colon, which it has uses for.
RegisteredName = Annotated[Name, Field(pattern="^[^/:]+$")]
ValidationMetric = Literal["val/loss", "val/accuracy", "val/hinge", "val/softmax"]


class FullShuffle(StrictModel):
    """Every epoch visits all the training rows in random order."""

    type: Literal["full"]


class BlockShuffle(StrictModel):
    """For data larger than memory: blocks of rows that lie together in random order, rows in random order in a window.

    An epoch then reads large parts of the file one after another. A window of many small blocks mixes best.
    """

    type: Literal["blocks"]
    block: int = Field(128, ge=1, le=2**32, description="Rows of a block.")
    window: int = Field(512, ge=1, le=2**32, description="Blocks whose rows are mixed with each other.")


ShuffleSpec = Annotated[FullShuffle | BlockShuffle, Field(discriminator="type")]


Divisor = Annotated[float, Field(ge=1e-30, le=1e30)]
Shift = Annotated[float, Field(ge=-1e30, le=1e30)]


class ScaleSpec(StrictModel):
    """`(x - subtract) / divide` for each number of a row; of a list, one number for each channel or each feature."""

    subtract: Shift | Annotated[list[Shift], Field(min_length=1, max_length=4096)] = Field(
        0.0, description="What becomes 0."
    )
    divide: Divisor | Annotated[list[Divisor], Field(min_length=1, max_length=4096)] = Field(
        1.0, description="What becomes 1, such as 255 for bytes."
    )


class SplitSpec(StrictModel):
    """Which rows train and which validate, by their values in the dataset's split column; others are left out."""

    train: list[str] = Field(min_length=1, max_length=256, description="Values of the rows to train on.")
    validation: list[str] = Field([], max_length=256, description="Values of the rows to validate on.")

    @model_validator(mode="after")
    def _each_value_once(self) -> Self:
        if both := sorted({*self.train} & {*self.validation}):
            raise ValueError(f"has {both[0]!r} in both train and validation: a row trains or validates")
        return self


class DataSpec(StrictModel):
    """Which rows a job trains on, in what order and form, and which it is validated on."""

    dataset: Name = Field(description="Name of a registered dataset.")
    validation: float = Field(
        0.2, ge=0, lt=1, description="Share of the rows, drawn by the seed, that is kept for validation."
    )
    standardize: bool = Field(
        True, description="Subtract each feature's mean and divide by its standard deviation, over the training rows."
    )
    scale: ScaleSpec | None = Field(
        None, description="Scale features by given numbers; `standardize` is then false by default, and must be."
    )
    stratify: bool = Field(False, description="Keep that share of each class for validation.")
    split: SplitSpec | None = Field(
        None,
        description="Split by the dataset's split column; `validation` is then 0 by default, and must be.",
        exclude_if=lambda split: split is None,
    )
    shuffle: ShuffleSpec = Field(
        FullShuffle(type="full"), description="The order in which epochs visit the training rows; the seed fixes it."
    )
    augmentation: list[AugmentationSpec] = Field(
        [], max_length=16, description="Random changes to images, one after another, in training only."
    )

    @model_validator(mode="before")
    @classmethod
    def _what_is_given_is_enough(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("scale") is not None:
            given = {"standardize": False, **given}
        if isinstance(given, dict) and given.get("split") is not None:
            given = {"validation": 0.0, **given}
        return given

    @model_validator(mode="after")
    def _scaled_once(self) -> Self:
        if self.scale is not None and self.standardize:
            raise ValueError("has both standardize and scale: only one of them can be")
        return self

    @model_validator(mode="after")
    def _split_once(self) -> Self:
        if self.split is not None and (self.validation or self.stratify):
            other = "validation" if self.validation else "stratify"
            raise ValueError(f"has both split and {other}: a split by a column has its own list of validation values")
        return self

    @property
    def blocks(self) -> Blocks | None:
        """The blocks in which the rows are shuffled; None if all are shuffled together."""
        shuffle = self.shuffle
        return Blocks(shuffle.block, shuffle.window) if isinstance(shuffle, BlockShuffle) else None


class ModelSpec(StrictModel):
    """Layers from the features to one score per class.

    Each reads the one before it, unless its `inputs` name others: branches, sums of several, and so on.
    """

    inputs: int | None = Field(
        None, ge=1, description="Width of the rows that the model expects; checked against the dataset."
    )
    layers: list[LayerSpec] = Field(min_length=1, max_length=256, description="From the first layer to the scores.")


class RegularizationSpec(StrictModel):
    """Penalties on the weights, added to the loss once per step; biases are left out."""

    l1: float = Field(0.0, ge=0, description="Factor of the sum of absolute weights.")
    l2: float = Field(0.0, ge=0, description="Factor of the sum of squared weights (no factor 1/2).")

    @property
    def penalty(self) -> Penalty | None:
        """The penalty in the form with the fewest passes over the weights; None without one."""
        if self.l1 and self.l2:
            return ElasticNet(self.l1, self.l2)
        if self.l1:
            return L1(self.l1)
        return L2(self.l2) if self.l2 else None


class EarlyStoppingSpec(StrictModel):
    """Ends training once a metric on the validation rows has stopped getting better."""

    metric: ValidationMetric = Field("val/loss", description="What is watched, after every epoch.")
    patience: int = Field(5, ge=1, le=1_000_000, description="Epochs without a better value after which to stop.")
    min_delta: float = Field(0.0, ge=0, description="By how much a value must be better to count as better.")


class TrainingSpec(StrictModel):
    """How long to train, on what batches, from which seed."""

    epochs: int = Field(ge=1, le=1_000_000, description="Passes over the training rows.")
    batch_size: int = Field(128, ge=1, le=1_048_576, description="Rows of one global batch, over all workers.")
    seed: int = Field(0, ge=0, lt=2**63, description="Fixes the split, the initial weights and every epoch's order.")
    shards: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Parts into which each batch is cut. They fix the order of every sum, and so the bits of the "
        "result, whatever the number of workers. Default: 4, or more where there are more CPUs than that.",
    )
    clipping: ClippingSpec | None = Field(
        None, description="Limit on the batch's gradient, the penalty's included; without one it is taken as it is."
    )
    early_stopping: EarlyStoppingSpec | None = Field(None, description="Without it, all epochs are trained.")


class CheckpointsSpec(StrictModel):
    """When the whole state of training is written to disk, for a job to go on from after a pause or a fault.

    Where several are given, each has its say. No result depends on it. The end of a job is always written.
    """

    every_seconds: float | None = Field(None, gt=0, description="Default: 30, where no other field says when.")
    every_steps: int | None = Field(None, ge=1)
    every_epochs: int | None = Field(None, ge=1)
    keep: int = Field(2, ge=1, le=1000, description="How many to keep, the latest ones.")
    best: ValidationMetric = Field(
        "val/loss", description="Every checkpoint also holds the parameters that were best by this metric so far."
    )


class ResourcesSpec(StrictModel):
    """Where the shards are computed. No result depends on it, but for whether that is on GPUs."""

    workers: int = Field(1, ge=1, le=1024, description="Worker processes.")
    cpus_per_worker: int = Field(1, ge=1, le=1024, description="Threads of shards in each worker.")
    gpus_per_worker: int = Field(
        0, ge=0, le=1, description="1: gradients are computed on a GPU, with CuPy, and updates on the CPUs."
    )

    @property
    def total(self) -> dict[str, int]:
        """What all the workers need together, by Ray's names for it."""
        return {"CPU": self.workers * self.cpus_per_worker, "GPU": self.workers * self.gpus_per_worker}

    @property
    def lanes(self) -> int:
        """How many shards are computed at once: a GPU computes one after another, whatever its worker's CPUs."""
        return self.workers * (1 if self.gpus_per_worker else self.cpus_per_worker)


class JobSpec(StrictModel):
    """A training job."""

    name: Name
    experiment: Name = Field("default", description="Experiment in MLflow under which the job's run appears.")
    data: DataSpec
    model: ModelSpec
    loss: LossSpec
    regularization: RegularizationSpec = RegularizationSpec()
    optimizer: OptimizerSpec
    training: TrainingSpec
    resources: ResourcesSpec = ResourcesSpec()
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    max_restarts: int = Field(
        3,
        ge=0,
        le=1000,
        description="How often the job may lose what it runs on and go on from a checkpoint.",
    )
    registered_model_name: RegisteredName | None = Field(
        None,
        description="Name in MLflow's registry of which the trained model becomes the newest version; without one it "
        "stands beside the job's run only.",
        exclude_if=lambda name: name is None,
    )
