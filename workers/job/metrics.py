"""The metrics of a job, which follow from its task: names of its series, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast, get_args

from pydantic import Field

from core import LossMetric, Metric, RankingMetric, TallyMetric, Task, registered
from core.names import counted, suggest

METRICS = cast("dict[str, type[Metric]]", dict(registered("metric")))
HIGHER_IS_BETTER = frozenset(f"val/{name}" for name, metric in METRICS.items() if metric.higher_is_better)

#: the metric by which jobs of a task are ranked if the user names none
RANKED_BY: dict[Task, str] = {
    "classification": "val/accuracy",
    "binary": "val/accuracy",
    "multilabel": "val/f1",
    "regression": "val/r2",
}

if TYPE_CHECKING:
    EpochMetric: TypeAlias = str
    ComparedMetric: TypeAlias = str
    ValidationMetric: TypeAlias = str
else:
    # Those that exist after every epoch, and all.
    EpochMetric = Literal[
        ("val/loss", *(f"val/{name}" for name, metric in METRICS.items() if not issubclass(metric, RankingMetric)))
    ]
    ValidationMetric = Literal[("val/loss", *(f"val/{name}" for name in METRICS))]
    # Any text, since a job knows which metrics it has; see `JobMetrics.refusal`.
    ComparedMetric = Annotated[str, Field(max_length=100, json_schema_extra={"enum": [*get_args(EpochMetric)]})]


@dataclass(frozen=True)
class JobMetrics:
    """The registered metrics that say something about a task with this number of outputs, in order of name.

    Those of tallies and losses are computed after every epoch, those of the order of rows at the end of training only.
    """

    task: Task
    outputs: int

    @property
    def tallied(self) -> list[TallyMetric]:
        """Those that follow from tallies."""
        return [metric for metric in self._fitting if isinstance(metric, TallyMetric)]

    @property
    def losses(self) -> list[LossMetric]:
        """Those that are means of a loss."""
        return [metric for metric in self._fitting if isinstance(metric, LossMetric)]

    @property
    def ranking(self) -> list[RankingMetric]:
        """Those that depend on the order of all rows."""
        return [metric for metric in self._fitting if isinstance(metric, RankingMetric)]

    @property
    def training(self) -> list[TallyMetric]:
        """Those that are computed in every step."""
        return [metric for metric in self.tallied if metric.in_training]

    @property
    def _fitting(self) -> list[Metric]:
        metrics = [metric() for metric in METRICS.values() if self.task in metric.tasks]
        return [metric for metric in metrics if metric.fits(self.outputs)]

    @property
    def training_series(self) -> tuple[str, ...]:
        """Names of the figures of a batch, each of which also has a mean over an epoch."""
        of_metrics = (f"train/{metric.type}" for metric in self.training)
        return ("train/loss", "train/data_loss", "train/reg_loss", *of_metrics, "train/active_fraction")

    @property
    def step_series(self) -> tuple[str, ...]:
        """Names of the series with a point for each step."""
        return (*self.training_series, "grad/norm")

    @property
    def validation_series(self) -> tuple[str, ...]:
        """Names of the metrics on the validation rows after every epoch."""
        return ("val/loss", *(f"val/{metric.type}" for metric in (*self.losses, *self.tallied)))

    def refusal(self, metric: str) -> str | None:
        """Why the job cannot compare a metric after every epoch, and which ones it can; None if it can."""
        if metric in self.validation_series:
            return None
        if metric in self.final:
            why = "is computed only at the end of training"
        elif metric in get_args(ValidationMetric):
            why = f"a {self.task} job with {counted(self.outputs, 'output')} does not have"
        else:
            why = "is no metric of validation rows"
        near = suggest(metric, self.validation_series)
        return f"is {metric!r}, which {why}: must be one of {', '.join(self.validation_series)}{near}"

    @property
    def epoch_series(self) -> tuple[str, ...]:
        """Names of the series with a point for each epoch."""
        means = map(epoch_mean, self.training_series)
        return (*self.validation_series, *means, "weights/norm", "time/step_ms", "time/exchange_ms")

    @property
    def final(self) -> tuple[str, ...]:
        """Names of the metrics of the kept parameters."""
        return (*self.validation_series, *(f"val/{metric.type}" for metric in self.ranking))


def epoch_mean(series: str) -> str:
    """Name of the series with the means, over an epoch, of a series with a point for each step."""
    return f"{series}_epoch"
