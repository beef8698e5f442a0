"""The comparison figure of a sweep: the best settings of each loss, and the values at other settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from core import from_spec, to_spec
from service.analysis.comparison_figure import MOST_LOSSES, Group, Values, draw_comparison
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
LONGEST_LABEL = 90  # characters


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
    ranked = sorted(best, key=lambda loss: _mean(best[loss]), reverse=metric in HIGHER_IS_BETTER)
    shown = {loss: best[loss] for loss in best if loss in ranked[:MOST_LOSSES]}
    groups = []
    for loss, group in shown.items():
        words = _words(group[0], fields)
        label = shortened(f"{loss}, {words}" if words else loss, LONGEST_LABEL)
        groups.append(Group(label, loss, [_read(member) for member in group]))
    values = _values([group for group in by_overrides.values() if _loss(group[0]) in shown], fields, metric)
    types = {group[0].subject.spec["loss"]["type"] for group in best.values()}
    each = "each loss" if len(types) == len(best) else "each loss with its fields"
    cut = f", the best {len(shown)} of {len(best)}," if len(shown) < len(best) else ""
    title = f"{name}: the best settings of {each}{cut} by {metric}, kept parameters"
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
    return _words(member, fields) if fields else _loss(member)


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
    """Return the settings except loss and seed, "lr 0.05, l2 0.005"; for a single field, only the value."""
    return ", ".join(_word(member, field, alone=len(fields) == 1) for field in fields)


def _word(member: Member, field: str, *, alone: bool) -> str:
    """Return a field's value, which is that of the spec if the member does not set it."""
    name = field.rpartition(".")[2]
    if field in member.overrides:
        value = member.overrides[field]
    elif (value := _value_at(member.subject.spec, field)) is None:
        return f"no {name}"
    elif isinstance(value, dict | list):  # of a spec with all defaults, which are too long
        return f"{name} of the base"
    return _short(value) if alone else f"{name} {_short(value)}"


def _value_at(spec: Any, field: str) -> Any:
    """Return the value at a dotted path; None if there is none."""
    for part in field.split("."):
        match spec:
            case dict():
                spec = spec.get(part)
            case list() if part.isdecimal() and int(part) < len(spec):
                spec = spec[int(part)]
            case _:
                return None
    return spec


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
