"""The comparison of a sweep's jobs as a table and as CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

from service.cli.tables import columns_that_fit, figure, print_table, spread
from service.cli.terminal import say
from service.csv_cells import cell

if TYPE_CHECKING:
    from service.client.views import Comparison, Group

# Prefix of the metrics of the parameters that are kept.
KEPT = "kept/"
# Only comparable between models with equal losses.
LOSS = "val/loss"
MARKS = {"": "", "loss": "*", "overall": "**"}


def print_comparison(comparison: Comparison) -> None:
    """Print a row for each group: mean ± standard deviation over its n seeds, and which groups are best.

    The metrics are those of the parameters that are kept, as many as fit, and that which ranks the groups has its last
    value beside it.
    """
    ranked = comparison["metric"]
    others = (name for name in comparison["metrics"] if name not in {ranked, LOSS})
    present = {name for group in comparison["groups"] for name in group["metrics"]}
    metrics = [KEPT + ranked, ranked, *(KEPT + name for name in others if KEPT + name in present)]
    fields = _fields(comparison)
    rows = [
        (
            MARKS[_best(comparison, position)],
            *(_value(group, field) for field in fields),
            str(group["n"]),
            *(_spread(group, name) for name in metrics),
        )
        for position, group in enumerate(comparison["groups"])
    ]
    columns = ("", *_short(fields), "n", *metrics)
    shown = columns_that_fit(columns, rows, needed=len(fields) + 4)
    print_table(columns[:shown], [row[:shown] for row in rows])
    say(f"mean ± standard deviation of n jobs; ** best {KEPT}{ranked}, * best of the loss")
    say(f"{KEPT}: of the parameters that are kept; without it: the last value")
    if shown < len(columns):
        say(f"not shown: {', '.join(columns[shown:])}; all are in --csv")
    if comparison["left_out"]:
        say(f"left out: {comparison['left_out']} of {len(comparison['members'])} jobs, which have not succeeded")


def comparison_csv(comparison: Comparison) -> str:
    """Return the groups as CSV, with the mean, standard deviation and n of every metric."""
    fields = _fields(comparison)
    names = sorted({name for group in comparison["groups"] for name in group["metrics"]})
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    statistics = [f"{name} {column}" for name in names for column in ("mean", "std", "n")]
    lines.writerow(map(cell, ["best", *fields, "n", "left_out", *statistics]))
    for position, group in enumerate(comparison["groups"]):
        figures = [figure for name in names for figure in _figures(group, name)]
        values = [_value(group, field) for field in fields]
        row = [_best(comparison, position), *values, group["n"], group["left_out"], *figures]
        lines.writerow(map(cell, row))
    return text.getvalue()


def _fields(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(field for group in comparison["groups"] for field in group["overrides"]))


def _short(fields: list[str]) -> list[str]:
    """The last parts of the fields' names, such as "loss" for "loss.type"; the whole names if these are not unique."""
    short = [field.removesuffix(".type").rpartition(".")[2] for field in fields]
    return short if len(set(short)) == len(short) else fields


def _best(comparison: Comparison, position: int) -> str:
    if position == comparison["best"]:
        return "overall"
    return "loss" if position in comparison["best_per_loss"].values() else ""


def _value(group: Group, field: str) -> str:
    match group["overrides"].get(field, ""):
        case str(value):
            return value
        case {"type": str(name), **rest} if not rest:
            return name
        case value:
            return json.dumps(value)


def _spread(group: Group, name: str) -> str:
    mean, deviation, n = _figures(group, name)
    if mean is None:
        return ""
    shown = figure(mean) if deviation is None else spread(mean, deviation)
    return shown + ("" if n == group["n"] else f" ({n})")


def _figures(group: Group, name: str) -> tuple[float | None, float | None, int]:
    statistic = group["metrics"].get(name)
    return (None, None, 0) if statistic is None else (statistic["mean"], statistic["std"], statistic["n"])
