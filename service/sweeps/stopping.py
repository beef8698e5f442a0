"""Stopping rules of sweeps.

The decisions are a pure function of the members' states and metric values, and are not stored: after a crash they are
computed again.
"""

from __future__ import annotations

import math
import statistics
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from service.jobs.states import STOPPED_BY_SWEEP, TERMINAL, State
from workers.job.fields import StrictModel
from workers.job.metrics import HIGHER_IS_BETTER, ComparedMetric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Epochs = Annotated[int, Field(ge=1, le=1_000_000)]


class MedianStopping(StrictModel):
    """Stops a member whose best value so far is worse than the median of the others' averages so far.

    Golovin et al., Google Vizier: A Service for Black-Box Optimization (KDD 2017).
    """

    type: Literal["median"]
    metric: ComparedMetric = Field(description="Metric by which members are compared.")
    after_epochs: Epochs = Field(5, description="No member is stopped before the end of this epoch.")
    members: int = Field(3, ge=1, le=1000, description="Minimum number of other members that have reached the epoch.")

    @property
    def begins(self) -> int:
        """The first epoch after which a member can be stopped."""
        return self.after_epochs


class SuccessiveHalving(StrictModel):
    """Trains all members to the first rung, the best of them to the next rung, and so on.

    Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization (AISTATS 2016).
    """

    type: Literal["halving"]
    metric: ComparedMetric = Field(description="Metric by which members are compared at the end of a rung's epoch.")
    factor: int = Field(
        3, ge=2, le=1000, description="One of this many members continues; the next rung is this many times later."
    )
    first: Epochs = Field(1, description="Epoch of the first rung.")

    @property
    def begins(self) -> int:
        """The first epoch after which a member can be stopped."""
        return self.first

    def rungs(self, epochs: int) -> Iterator[int]:
        """Rungs of members that train at most this many epochs."""
        rung = self.first
        while rung < epochs:
            yield rung
            rung *= self.factor


Stopping = Annotated[MedianStopping | SuccessiveHalving, Field(discriminator="type")]


class Standing(NamedTuple):
    """State of a member: the epochs that it trains, and the values of the metric by epoch."""

    id: str
    state: State
    epochs: int
    values: Mapping[int, float]


class Verdict(NamedTuple):
    """Decision of a rule about a sweep: members to stop and members to hold, by id, with reasons.

    Members that start train up to the end of the epoch `until`, or, without it, to their own end.
    """

    stop: Mapping[str, str]
    hold: Mapping[str, str]
    until: int | None = None


def verdict_of(rule: Stopping, members: Sequence[Standing]) -> Verdict:
    """Decision of a rule. A paused member is not stopped before it is resumed."""
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
        # Every member with a value at the rung takes part, whatever its state: no later event changes a decision.
        values = {member.id: _value_at(member, rung) for member in racing}
        costs = {id_: _cost(rule.metric, value) for id_, value in values.items() if value is not None}
        if any(member.id not in costs and member.state not in TERMINAL for member in racing):
            reason = f"waiting_for_sweep: other members have not reached the end of epoch {rung}"
            hold = {member.id: reason for member in racing if member.id in costs and member.state is State.QUEUED}
            return Verdict(stop, hold, rung)
        best = set(sorted(costs, key=lambda id_: (costs[id_], id_))[: math.ceil(len(costs) / rule.factor)])
        for member in racing:
            # A member that still runs ends at this rung.
            if member.id in costs and member.id not in best and member.state is State.QUEUED:
                stop[member.id] = (
                    f"{STOPPED_BY_SWEEP}: {rule.metric} {_text(rule, costs[member.id])} at epoch {rung} is not among "
                    f"the best {len(best)} of {len(costs)}"
                )
        racing = [member for member in racing if member.id in best]
    return Verdict(stop, {})


def _value_at(member: Standing, epoch: int) -> float | None:
    """The value after an epoch; for a member that has succeeded earlier, its last value."""
    if epoch not in member.values and member.state is State.SUCCEEDED:
        epoch = max((earlier for earlier in member.values if earlier < epoch), default=0)
    return member.values.get(epoch)


def _running_averages(metric: str, member: Standing) -> dict[int, float]:
    """By epoch, the average cost so far."""
    epochs = sorted(member.values)
    sums = accumulate(_cost(metric, member.values[epoch]) for epoch in epochs)
    return {epoch: total / count for count, (epoch, total) in enumerate(zip(epochs, sums, strict=True), start=1)}


def _cost(metric: str, value: float) -> float:
    """The value with its sign chosen so that lower is better; NaN is the worst."""
    if math.isnan(value):
        return math.inf
    return -value if metric in HIGHER_IS_BETTER else value


def _text(rule: Stopping, cost: float) -> str:
    """The value with this cost."""
    return f"{_cost(rule.metric, cost):.6g}" if math.isfinite(cost) else "not a finite number"
