"""The job spec that a user posts, as pydantic models; the engine's registry provides layers, losses and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, model_validator

from core import Augmentation, Clipping, Entry, Graph, Head, Loss, Optimizer, Penalty, build_classifier
from core.penalties.elastic_net import ElasticNet
from core.penalties.l1 import L1
from core.penalties.l2 import L2
from core.registry import LARGEST
from workers.data.splitting import Chunks
from workers.job.fields import (
    DEEPEST_BLOCKS,
    MOST_LAYERS,
    AllowedText,
    AnyEntry,
    AnyHead,
    FieldValueError,
    StrictModel,
    spec_union,
)
from workers.job.metrics import ComparedMetric
from workers.job.preparation import MOST_PATTERNS, PrepareRule, is_pattern
from workers.machine.arithmetic import Arithmetic

MOST_AXES = 8  # of a row
Size = Annotated[int, Field(ge=1)]
#: the number of features of a row, or its shape
RowShape: TypeAlias = Size | Annotated[list[Size], Field(min_length=1, max_length=MOST_AXES)]

if TYPE_CHECKING:
    LayerSpec: TypeAlias = Entry
    HeadSpec: TypeAlias = Head
    LossSpec: TypeAlias = Loss  # or a `BalancedLoss`, before the spec is resolved
    OptimizerSpec: TypeAlias = Optimizer
    ClippingSpec: TypeAlias = Clipping
    AugmentationSpec: TypeAlias = Augmentation
else:
    LayerSpec = AnyEntry
    HeadSpec = AnyHead
    LossSpec = spec_union("loss")
    OptimizerSpec = spec_union("optimizer")
    ClippingSpec = spec_union("clipping")
    AugmentationSpec = spec_union("augmentation")

Name = Annotated[str, AllowedText, Field(min_length=1, max_length=200)]


def _check_registered_name(name: str) -> str:
    if name == "." or name.startswith(".."):
        raise ValueError('must not be "." or begin with "..": MLflow does not accept names that can be paths')
    return name


# MLflow does not allow a slash or a colon either.
RegisteredName = Annotated[Name, Field(pattern="^[^/:]+$"), AfterValidator(_check_registered_name)]


class FullShuffle(StrictModel):
    """Every epoch visits all the training rows in random order."""

    type: Literal["full"]


class ChunkShuffle(StrictModel):
    """For data larger than memory: chunks of adjacent rows in random order, and rows in random order within a window.

    An epoch then reads large parts of the file one after another. A window of many small chunks mixes best.
    """

    type: Literal["chunks"]
    chunk: int = Field(128, ge=1, le=2**32, description="Rows of a chunk.")
    window: int = Field(512, ge=1, le=2**32, description="Chunks whose rows are mixed with each other.")


ShuffleSpec = Annotated[FullShuffle | ChunkShuffle, Field(discriminator="type")]


Divisor = Annotated[float, Field(ge=1e-30, le=1e30)]
Shift = Annotated[float, Field(ge=-1e30, le=1e30)]


class ScaleSpec(StrictModel):
    """`(x - subtract) / divide` for each number of a row; a list has one number for each channel or each feature."""

    subtract: Shift | Annotated[list[Shift], Field(min_length=1, max_length=4096)] = Field(
        0.0, description="The value that becomes 0."
    )
    divide: Divisor | Annotated[list[Divisor], Field(min_length=1, max_length=4096)] = Field(
        1.0, description="The range that becomes 1, such as 255 for bytes."
    )


def _as_in_column(value: Any) -> Any:
    """An integer or a boolean as a dataset's split column is read."""
    return str(value).lower() if isinstance(value, int) else value


# A column may contain the number of a fold, so lists may too.
SplitValue = Annotated[str, BeforeValidator(_as_in_column, json_schema_input_type=str | int | bool)]
SplitValues = Annotated[list[SplitValue], FailFast()]


class SplitSpec(StrictModel):
    """Training and validation rows by their values in the dataset's split column; other rows are not used."""

    train: SplitValues = Field(min_length=1, max_length=256, description="Values of the rows to train on.")
    validation: SplitValues = Field([], max_length=256, description="Values of the rows to validate on.")

    @model_validator(mode="after")
    def _each_value_once(self) -> Self:
        if both := sorted({*self.train} & {*self.validation}):
            raise ValueError(f"has {both[0]!r} in both train and validation: a row can be in only one of them")
        return self


class DataSpec(StrictModel):
    """The rows that a job trains on, their order and form, and the rows that it is validated on."""

    dataset: Name = Field(description="Name of a registered dataset.")
    validation: float = Field(
        0.2, ge=0, lt=1, description="Share of the rows, drawn with the seed, that is kept for validation."
    )
    standardize: bool = Field(
        True, description="Subtract each feature's mean and divide by its standard deviation, over the training rows."
    )
    standardize_targets: bool = Field(
        False,
        description="Train on targets from which the mean is subtracted and which are divided by the standard "
        "deviation, over the training rows. Predictions, and all figures except the loss, are in the targets' own "
        "units.",
        exclude_if=lambda standardize: not standardize,
    )
    scale: ScaleSpec | None = Field(
        None, description="Scale features by given numbers; `standardize` is then false by default, and must be."
    )
    prepare: list[PrepareRule] = Field(
        [],
        max_length=64,
        description="How columns are prepared. Columns without a rule have the defaults: numbers are standardized if "
        "`standardize` is true, and categories are one_hot.",
        exclude_if=lambda rules: not rules,
    )
    stratify: bool = Field(False, description="Keep that share of each class for validation.")
    split: SplitSpec | None = Field(
        None,
        description="Split by the dataset's split column; `validation` is then 0 by default, and must be.",
        exclude_if=lambda split: split is None,
    )
    shuffle: ShuffleSpec = Field(
        FullShuffle(type="full"), description="Order in which epochs visit the training rows; it depends on the seed."
    )
    augmentation: list[AugmentationSpec] = Field(
        [], max_length=16, description="Random changes to images, applied in this order, in training only."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_beside_scale_and_split(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("scale") is not None:
            given = {"standardize": False, **given}
        if isinstance(given, dict) and given.get("split") is not None:
            given = {"validation": 0.0, **given}
        return given

    @model_validator(mode="after")
    def _scaled_once(self) -> Self:
        if self.scale is not None and self.standardize:
            raise ValueError("has both standardize and scale: only one of them is allowed")
        if self.scale is not None and self.prepare:
            raise ValueError("has both prepare and scale: only one of them is allowed")
        return self

    @model_validator(mode="after")
    def _few_patterns(self) -> Self:
        count = sum(is_pattern(each) for rule in self.prepare for each in rule.columns)
        if count > MOST_PATTERNS:  # each is compared with the name of every column
            raise FieldValueError("prepare", f"has {count} patterns: at most {MOST_PATTERNS} are allowed in all rules")
        return self

    @model_validator(mode="after")
    def _split_once(self) -> Self:
        if self.split is not None and (self.validation or self.stratify):
            other = "validation" if self.validation else "stratify"
            raise ValueError(f"has both split and {other}: a split by a column has its own list of validation values")
        return self

    @property
    def chunks(self) -> Chunks | None:
        """The chunks in which the rows are shuffled; None if all are shuffled together."""
        shuffle = self.shuffle
        return Chunks(shuffle.chunk, shuffle.window) if isinstance(shuffle, ChunkShuffle) else None


class ModelSpec(StrictModel):
    """Layers from the features to the scores: one per class, or one for two classes, or one value per target.

    Each layer reads the one before it, unless its `inputs` name others, as in branches and sums. A block stands for
    several layers.
    """

    inputs: RowShape | None = Field(
        None,
        description="Number of features of a row, or the shape in which the model reads it, such as [28, 28, 1]. "
        "Default: the shape of the dataset's images if the first layer reads only images, such as conv2d, and "
        "otherwise the number of features.",
    )
    layers: list[LayerSpec] = Field(
        min_length=1, max_length=MOST_LAYERS, description="From the first layer to the scores."
    )

    heads: list[HeadSpec] = Field(
        [],
        max_length=16,
        description="Auxiliary classifiers, whose losses help to train the layers that they read. Losses and metrics "
        "are those of the model alone, and predictions do not compute the heads.",
        exclude_if=lambda heads: not heads,
    )

    @model_validator(mode="after")
    def _small_enough_with_blocks_expanded(self) -> Self:
        # Both are computed without expanding a block.
        parts = {"layers": self.layers} | {
            f"heads.{index}.layers": head.layers for index, head in enumerate(self.heads)
        }
        total = 0
        for field, layers in parts.items():
            if any(layer.depth() > DEEPEST_BLOCKS for layer in layers):
                raise FieldValueError(field, f"has blocks nested too deep: at most {DEEPEST_BLOCKS} levels are allowed")
            if (total := total + sum(layer.size() for layer in layers)) > MOST_LAYERS:
                raise FieldValueError(
                    field,
                    f"makes {total:,} layers with blocks expanded: at most {MOST_LAYERS:,} are allowed in a model",
                )
        return self

    def graph(self) -> Graph:
        """The graph of the model, without a loss. ValueError if `inputs` is not set: the spec must be resolved."""
        if self.inputs is None:
            raise ValueError("model.inputs is not set: the spec must be resolved first")
        return build_classifier(self.layers, self.inputs, self.heads)


class RegularizationSpec(StrictModel):
    """Penalties on the weights, added to the loss once per step; biases are left out."""

    l1: float = Field(0.0, ge=0, le=LARGEST, description="Factor of the sum of absolute weights.")
    l2: float = Field(0.0, ge=0, le=LARGEST, description="Factor of the sum of squared weights (no factor 1/2).")

    @property
    def penalty(self) -> Penalty | None:
        """The penalty in the form with the fewest passes over the weights; None without one."""
        if self.l1 and self.l2:
            return ElasticNet(self.l1, self.l2)
        if self.l1:
            return L1(self.l1)
        return L2(self.l2) if self.l2 else None


class EarlyStoppingSpec(StrictModel):
    """Stops training when a metric on the validation rows no longer improves."""

    metric: ComparedMetric = Field("val/loss", description="Metric that is compared after every epoch.")
    patience: int = Field(
        5, ge=1, le=1_000_000, description="Number of epochs without improvement after which training stops."
    )
    min_delta: float = Field(0.0, ge=0, le=LARGEST, description="Smallest difference that counts as an improvement.")


class TrainingSpec(StrictModel):
    """Epochs, batches and seed of the training."""

    epochs: int = Field(ge=1, le=1_000_000, description="Passes over the training rows.")
    batch_size: int = Field(128, ge=1, le=1_048_576, description="Rows of one global batch, over all workers.")
    seed: int = Field(
        0, ge=0, lt=2**63, description="Determines the split, the initial weights and every epoch's order."
    )
    shards: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Parts into which each batch is cut. They determine the order of every sum, and so the bits of "
        "the result, for any number of workers. Default: 4, or fewer if a batch has fewer rows.",
    )
    arithmetic: Arithmetic | None = Field(
        None,
        description="Instruction set that the workers compute with. The bits of the result are the same on every CPU "
        "that has it. Default: the highest one that all nodes have when the job first starts.",
    )
    clipping: ClippingSpec | None = Field(
        None, description="Limit on the gradient of the batch, penalty included. Default: no limit."
    )
    early_stopping: EarlyStoppingSpec | None = Field(None, description="Default: all epochs are trained.")


class CheckpointsSpec(StrictModel):
    """When to write the whole state of training to disk, from which a job continues after a pause or a failure.

    If several fields are given, each of them applies. The result does not depend on them. The end of a job always has a
    checkpoint.
    """

    every_seconds: float | None = Field(None, gt=0, description="Default: 30 if no other interval is given.")
    every_steps: int | None = Field(None, ge=1)
    every_epochs: int | None = Field(None, ge=1)
    keep: int = Field(2, ge=1, le=1000, description="Number of checkpoints to keep, the latest ones.")
    best: ComparedMetric = Field(
        "val/loss", description="Every checkpoint also holds the parameters with the best value of this metric so far."
    )


class ResourcesSpec(StrictModel):
    """Where the shards are computed. The result does not depend on it, except on whether GPUs are used."""

    workers: int = Field(1, ge=1, le=1024, description="Worker processes.")
    cpus_per_worker: int = Field(1, ge=1, le=1024, description="Threads of shards in each worker.")
    gpus_per_worker: int = Field(
        0, ge=0, le=1, description="1: gradients are computed on a GPU, with CuPy, and updates on the CPUs."
    )

    @property
    def total(self) -> dict[str, int]:
        """Resources of all workers together, under Ray's names."""
        return {"CPU": self.workers * self.cpus_per_worker, "GPU": self.workers * self.gpus_per_worker}

    @property
    def lanes(self) -> int:
        """How many shards are computed at the same time; a GPU computes one after another."""
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
        description="How often the job may be restarted from a checkpoint after it lost its workers.",
    )
    registered_model_name: RegisteredName | None = Field(
        None,
        description="Name in MLflow's registry, of which the trained model becomes the newest version. Default: the "
        "model is stored with the job's run only.",
        exclude_if=lambda name: name is None,
    )
