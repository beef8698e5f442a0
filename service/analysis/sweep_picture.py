"""The comparison picture of a sweep: the best settings of each loss, and the accuracy at all the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from core import from_spec, to_spec
from service.analysis.comparison_figure import Accuracies, Group, draw_comparison
from service.analysis.replica import read_replica

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from service.analysis.pictures import Subject
    from service.analysis.replica import Replica

SEED = "training.seed"
MOST_SETTINGS = 10
LONGEST_SETTING = 40  # characters


@dataclass(frozen=True)
class Member:
    """A job of a sweep that has succeeded: the fields that the sweep set, and its last `val/accuracy`."""

    subject: Subject
    overrides: Mapping[str, Any]
    accuracy: float


def draw_sweep(name: str, members: Sequence[Member]) -> Figure | None:
    """Draw a sweep; None where none of its members has succeeded.

    Raises what `read_replica` does where a job's files cannot be read.
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
        if loss not in best or _mean(group) > _mean(best[loss]):
            best[loss] = group
    groups = []
    for loss, group in best.items():
        words = _words(group[0], fields)
        groups.append(Group(f"{loss}, {words}" if words else loss, loss, [_read(member) for member in group]))
    accuracies = _accuracies(list(by_overrides.values()), fields)
    return draw_comparison(f"{name}: the best settings of each loss", groups, accuracies, by=", ".join(fields))


def _accuracies(groups: Sequence[Sequence[Member]], fields: Sequence[str]) -> list[Accuracies]:
    """What is drawn of all the groups, in their order: those with the best settings, if there are many."""
    ranked = sorted(groups, key=_mean, reverse=True)
    shown = set(list(dict.fromkeys(_words(group[0], fields) for group in ranked))[:MOST_SETTINGS])
    return [
        Accuracies(words, _loss(group[0]), [member.accuracy for member in group])
        for group in groups
        if (words := _words(group[0], fields)) in shown
    ]


def _settings(member: Member) -> dict[str, Any]:
    return {field: value for field, value in member.overrides.items() if field != SEED}


def _beside_loss(member: Member) -> dict[str, Any]:
    return {field: value for field, value in _settings(member).items() if field.partition(".")[0] != "loss"}


def _mean(group: Sequence[Member]) -> float:
    return fmean(member.accuracy for member in group)


def _read(member: Member) -> Replica:
    subject = member.subject
    return read_replica(subject.directory, subject.job, subject.spec, subject.dataset)


def _loss(member: Member) -> str:
    """The loss's type, and what of it is not the default."""
    spec = member.subject.spec["loss"]
    usual = to_spec(from_spec("loss", {"type": spec["type"]}))
    return " ".join([spec["type"], *(f"{field} {value}" for field, value in spec.items() if usual.get(field) != value)])


def _words(member: Member, fields: Sequence[str]) -> str:
    """What the sweep set beside the loss and the seed, "l2 0.005, lr 0.05"; of a single field the value only."""
    values = {field.rpartition(".")[2]: _short(value) for field, value in _beside_loss(member).items()}
    words = ", ".join(values.values() if len(fields) == 1 else (f"{name} {value}" for name, value in values.items()))
    return words if len(words) <= LONGEST_SETTING else f"{words[: LONGEST_SETTING - 1]}…"


def _short(value: Any) -> str:
    """A value of a spec; layers as "linear 128 relu linear 10"."""
    match value:
        case dict():
            return " ".join(_short(each) for each in value.values() if each is not None)
        case list():
            return " ".join(map(_short, value))
        case _:
            return str(value)
