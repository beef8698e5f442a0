"""The comparison figure of a sweep: the best settings of each loss, and the values at all settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from core import from_spec, to_spec
from service.analysis.comparison_figure import Group, Values, draw_comparison
from service.analysis.replica import read_replica
from service.analysis.style import shortened
from workers.job.metrics import HIGHER_IS_BETTER
from workers.record.selection import is_better

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from service.analysis.pictures import Subject
    from service.analysis.replica import Replica

SEED = "training.seed"
MOST_SETTINGS = 10
LONGEST_SETTING, LONGEST_LABEL = 40, 90  # characters


@dataclass(frozen=True)
class Member:
    """A successful job of a sweep: the fields that the sweep set, and its value of the metric."""

    subject: Subject
    overrides: Mapping[str, Any]
    value: float


def draw_sweep(name: str, metric: str, members: Sequence[Member]) -> Figure | None:
    """Draw a sweep, compared by a metric; None if `members`, its successful jobs, is empty.

    Raises the same errors as `read_replica` if the files of a job cannot be read.
    """
    by_overrides: dict[str, list[Member]] = {}
    for member in members:
        by_overrides.setdefault(json.dumps(_settings(member), sort_keys=True), []).append(member)
    if not by_overrides:
        return None
    fields = list(dict.fromkeys(field for member in members for field in _beside_loss(member)))
    best: dict[str, list[Member]] = {}
    for group in by_overrides.values():
        loss = _loss(group[0])
        if loss not in best or is_better(metric, _mean(group), _mean(best[loss])):
            best[loss] = group
    groups = []
    for loss, group in best.items():
        words = _words(group[0], fields)
        label = shortened(f"{loss}, {words}" if words else loss, LONGEST_LABEL)
        groups.append(Group(label, loss, [_read(member) for member in group]))
    values = _values(list(by_overrides.values()), fields, metric)
    title = f"{name}: the best settings of each loss by {metric}, kept parameters"
    return draw_comparison(title, groups, values, metric=metric, by=", ".join(fields) or "loss")


def _values(groups: Sequence[Sequence[Member]], fields: Sequence[str], metric: str) -> list[Values]:
    """Return the values of the groups in their order; only those with the best settings, if there are many."""
    ranked = sorted(groups, key=_mean, reverse=metric in HIGHER_IS_BETTER)
    shown = set(list(dict.fromkeys(_setting(group[0], fields) for group in ranked))[:MOST_SETTINGS])
    return [
        Values(words, _loss(group[0]), [member.value for member in group])
        for group in groups
        if (words := _setting(group[0], fields)) in shown
    ]


def _setting(member: Member, fields: Sequence[str]) -> str:
    """Return the settings except loss and seed, or the loss if nothing else varies."""
    return _words(member, fields) if fields else shortened(_loss(member), LONGEST_SETTING)


def _settings(member: Member) -> dict[str, Any]:
    return {field: value for field, value in member.overrides.items() if field != SEED}


def _beside_loss(member: Member) -> dict[str, Any]:
    return {field: value for field, value in _settings(member).items() if field.partition(".")[0] != "loss"}


def _mean(group: Sequence[Member]) -> float:
    return fmean(member.value for member in group)


def _read(member: Member) -> Replica:
    subject = member.subject
    return read_replica(subject.directory, subject.job, subject.spec, subject.dataset, last=False)


def _loss(member: Member) -> str:
    """Return the type of the loss, and its fields that differ from the default."""
    spec = member.subject.spec["loss"]
    usual = to_spec(from_spec("loss", {"type": spec["type"]}))
    others = (f"{field} {_short(value)}" for field, value in spec.items() if usual.get(field) != value)
    return " ".join([spec["type"], *others])


def _words(member: Member, fields: Sequence[str]) -> str:
    """Return the settings except loss and seed, "l2 0.005, lr 0.05"; for a single field, only the value."""
    values = {field.rpartition(".")[2]: _short(value) for field, value in _beside_loss(member).items()}
    words = ", ".join(values.values() if len(fields) == 1 else (f"{name} {value}" for name, value in values.items()))
    return words if len(words) <= LONGEST_SETTING else f"{words[: LONGEST_SETTING - 1]}…"


def _short(value: Any) -> str:
    """Return a value of a spec as text; layers as "linear 128 relu linear 10"."""
    match value:
        case dict():
            return " ".join(_short(each) for each in value.values() if each is not None)
        case list():
            return " ".join(map(_short, value))
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)
