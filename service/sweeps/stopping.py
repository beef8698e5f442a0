"""Rules by which a sweep stops members that are hopeless: what a spec says of them, and what follows.

What follows is a pure function of where the members stand, and nothing of it is kept: whoever asks again, after
whatever crash between two of its moves, is told the same.
"""

from __future__ import annotations

import math
import statistics
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from service.jobs.states import STOPPED_BY_SWEEP, TERMINAL, State
from workers.job.fields import StrictModel
from workers.job.spec import ValidationMetric
from workers.record.selection import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Epochs = Annotated[int, Field(ge=1, le=1_000_000)]


class MedianStopping(StrictModel):
    """Stops a member whose best value so far is worse than the median of the others' averages so far.

    Golovin et al., Google Vizier: A Service for Black-Box Optimization (KDD 2017).
    """

    type: Literal["median"]
    metric: ValidationMetric = Field(description="What members are compared by.")
    after_epochs: Epochs = Field(5, description="No member is stopped before the end of this epoch.")
    members: int = Field(3, ge=1, le=1000, description="How many others must have come as far to compare with.")

    @property
    def begins(self) -> int:
        """The first epoch after which a member can be stopped."""
        return self.after_epochs


class SuccessiveHalving(StrictModel):
    """Lets all members train up to a rung, the best of them up to the next one, and so on.

    Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization (AISTATS 2016).
    """

    type: Literal["halving"]
    metric: ValidationMetric = Field(description="What members are compared by, at the end of a rung's epoch.")
    factor: int = Field(
        3, ge=2, le=1000, description="Of so many members one goes on; the next rung is so many times further."
    )
    first: Epochs = Field(1, description="Epoch of the first rung.")

    @property
    def begins(self) -> int:
        """The first epoch after which a member can be stopped."""
        return self.first

    def rungs(self, epochs: int) -> Iterator[int]:
        """The rungs of members that train so many epochs at most."""
        rung = self.first
        while rung < epochs:
            yield rung
            rung *= self.factor


Stopping = Annotated[MedianStopping | SuccessiveHalving, Field(discriminator="type")]


class Standing(NamedTuple):
    """Where a member stands: the epochs that it is to train, and the values of the metric after those it has."""

    id: str
    state: State
    epochs: int
    values: Mapping[int, float]


class Verdict(NamedTuple):
    """What a rule makes of a sweep: whom to stop and whom not to start yet, by their ids, and why.

    Who starts trains up to the end of the epoch `until`, or, without one, to its own end.
    """

    stop: Mapping[str, str]
    hold: Mapping[str, str]
    until: int | None = None


def verdict_of(rule: Stopping, members: Sequence[Standing]) -> Verdict:
    """What a rule makes of where the members stand. A paused member is left alone until it is resumed."""
    return _median(rule, members) if isinstance(rule, MedianStopping) else _halving(rule, members)


def _median(rule: MedianStopping, members: Sequence[Standing]) -> Verdict:
    averages = {member.id: _running_averages(rule.metric, member) for member in members}
    stop = {}
    for member in members:
        epoch = max(member.values, default=0)
        if epoch < rule.after_epochs or member.state not in {State.QUEUED, State.STARTING, State.RUNNING}:
            continue
        others = [averages[other.id] for other in members if other.id != member.id]
        there = [average[epoch] for average in others if epoch in average]
        best = min(_cost(rule.metric, value) for value in member.values.values())
        if len(there) >= rule.members and best > (middle := statistics.median(there)):
            stop[member.id] = (
                f"{STOPPED_BY_SWEEP}: {rule.metric} was at best {_text(rule, best)} up to epoch {epoch}, worse than "
                f"{_text(rule, middle)}, the median of the averages of {len(there)} other members"
            )
    return Verdict(stop, {})


def _halving(rule: SuccessiveHalving, members: Sequence[Standing]) -> Verdict:
    racing, stop = list(members), dict[str, str]()
    for rung in rule.rungs(max((member.epochs for member in members), default=0)):
        # Who has a value here takes part here, whatever has become of it since: no later event changes a decision.
        values = {member.id: _value_at(member, rung) for member in racing}
        costs = {id_: _cost(rule.metric, value) for id_, value in values.items() if value is not None}
        if any(member.id not in costs and member.state not in TERMINAL for member in racing):
            reason = f"waiting_for_sweep: other members have not come to the end of epoch {rung} yet"
            hold = {member.id: reason for member in racing if member.id in costs and member.state is State.QUEUED}
            return Verdict(stop, hold, rung)
        best = set(sorted(costs, key=lambda id_: (costs[id_], id_))[: math.ceil(len(costs) / rule.factor)])
        for member in racing:
            # One that still runs is about to end at this rung.
            if member.id in costs and member.id not in best and member.state is State.QUEUED:
                stop[member.id] = (
                    f"{STOPPED_BY_SWEEP}: {rule.metric} {_text(rule, costs[member.id])} at epoch {rung} is not among "
                    f"the best {len(best)} of {len(costs)}"
                )
        racing = [member for member in racing if member.id in best]
    return Verdict(stop, {})


def _value_at(member: Standing, epoch: int) -> float | None:
    """The value after an epoch; of a member that has succeeded earlier, the last one it had."""
    if epoch not in member.values and member.state is State.SUCCEEDED:
        epoch = max((earlier for earlier in member.values if earlier < epoch), default=0)
    return member.values.get(epoch)


def _running_averages(metric: str, member: Standing) -> dict[int, float]:
    """By epoch, the average cost up to there."""
    epochs = sorted(member.values)
    sums = accumulate(_cost(metric, member.values[epoch]) for epoch in epochs)
    return {epoch: total / count for count, (epoch, total) in enumerate(zip(epochs, sums, strict=True), start=1)}


def _cost(metric: str, value: float) -> float:
    """A value so that less is better; what is no number is the worst."""
    if math.isnan(value):
        return math.inf
    return -value if metric in HIGHER_IS_BETTER else value


def _text(rule: Stopping, cost: float) -> str:
    """The value that has this cost."""
    return f"{_cost(rule.metric, cost):.6g}" if math.isfinite(cost) else "not a finite number"
