"""The note on the run of a sweep: the search space and the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.jobs.figures import kept
from service.jobs.mlflow_pages import charts_page, run_page, runs_page
from service.sweeps.expansion import SEED
from service.sweeps.repository import state_of
from service.tracking.description import short
from service.tracking.markdown import literal, table_row
from service.tracking.mlflow.api import LONGEST_TAG
from service.tracking.mlflow.experiment_view import EXPERIMENT
from workers.job.metrics import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.store.models import Sweep
    from service.sweeps.schemas import ComparisonView, GroupView, MemberView, StatisticView

MOST_METRICS = 4  # in the table


def first_note(sweep: Sweep) -> str:
    """Return the search space."""
    return "\n".join(_searched(sweep))


def last_note(sweep: Sweep, experiment_id: str, states: Mapping[str, int], comparison: ComparisonView) -> str:
    """Return the results, as many groups as fit, best first, and the search space.

    `states` is the number of jobs in each state.
    """
    state = state_of(states)
    jobs = f"{sum(states.values()):,} jobs: {', '.join(f'{count:,} {name}' for name, count in sorted(states.items()))}"
    charts, runs = charts_page(experiment_id, sweep.id), runs_page(experiment_id, EXPERIMENT)
    head = [f"**{state.capitalize()}**: {jobs}. [Compare them in charts]({charts}) · [all runs]({runs})", ""]
    tail = ["", *_searched(sweep)]
    room = LONGEST_TAG - sum(len(line) + 1 for line in (*head, *tail)) - 100  # for the line below a cut table
    table, rows = list(_table(experiment_id, comparison)), 0
    for line in table:
        room -= len(line) + 1
        if room < 0:
            break
        rows += 1
    cut = [] if rows == len(table) else ["", f"and {len(table) - rows:,} more, in `comparison.csv` among the artifacts"]
    return "\n".join([*head, *table[:rows], *cut, *tail])


def _table(experiment_id: str, comparison: ComparisonView) -> Iterator[str]:
    members = {member.id: member for member in comparison.members}
    fields = list(dict.fromkeys(field for group in comparison.groups for field in group.overrides))
    names = _columns(comparison)
    yield table_row([*map(literal, fields), *names, "n", "runs"])
    yield f"|{' --- |' * (len(fields) + len(names) + 2)}"
    best = set(comparison.best_per_loss.values())
    # MLflow folds long notes, so the best group of each loss comes first.
    for position in sorted(_ranked(comparison), key=lambda position: position not in best):
        group = comparison.groups[position]
        values = [short(group.overrides.get(field, "")) for field in fields]
        statistics = [_statistic(group.metrics.get(name)) for name in names]
        if position in best and names:
            statistics[0] = f"**{statistics[0]}**"
        runs = " ".join(_link(experiment_id, members[job_id]) for job_id in group.jobs)
        yield table_row([*values, *statistics, str(group.n), runs])
    if best:
        yield ""
        yield (
            "Mean ± standard deviation of n jobs; kept/: of the parameters that are kept, others: the last values. "
            f"First and in bold: the best mean {kept(comparison.metric)} of each loss."
        )


def _columns(comparison: ComparisonView) -> list[str]:
    """The metric that ranks the groups, of the kept parameters and of the last epoch, and others of the former."""
    metric = comparison.metric
    names = [kept(metric), metric, *(kept(name) for name in comparison.metrics[:MOST_METRICS] if name != metric)]
    return [name for name in names if any(name in group.metrics for group in comparison.groups)]


def _ranked(comparison: ComparisonView) -> list[int]:
    sign = -1 if comparison.metric in HIGHER_IS_BETTER else 1

    def rank(position: int) -> float:
        mean = _mean(comparison.groups[position], kept(comparison.metric))
        return float("inf") if mean is None else sign * mean

    return sorted(range(len(comparison.groups)), key=rank)


def _mean(group: GroupView, metric: str) -> float | None:
    return group.metrics[metric].mean if metric in group.metrics else None


def _statistic(statistic: StatisticView | None) -> str:
    if statistic is None or statistic.mean is None:
        return ""
    return f"{statistic.mean:.4g}" + ("" if statistic.std is None else f" ± {statistic.std:.2g}")


def _link(experiment_id: str, member: MemberView) -> str:
    name = short(member.overrides.get(SEED, member.name.rpartition("-")[2]))
    return name if member.mlflow is None else f"[{name}]({run_page(experiment_id, member.mlflow.run_id)})"


def _searched(sweep: Sweep) -> Iterator[str]:
    spec = sweep.spec
    parallel = "as many as possible at once" if sweep.parallel is None else f"at most {sweep.parallel} at once"
    yield f"The jobs differ in these fields and run {parallel}:"
    yield ""
    match spec["over"]:
        case {"grid": dict(fields)}:
            yield from (f"- {literal(field)}: {', '.join(map(short, values))}" for field, values in fields.items())
        case {"list": list(members)}:
            yield f"- {len(members):,} settings listed in the spec"
        case {"random": {"fields": dict(fields), "samples": samples, "seed": seed}}:
            yield from (f"- {literal(field)}: {_drawn(draw)}" for field, draw in fields.items())
            yield f"- {samples:,} random samples, seed {seed}"
    if spec.get("stopping"):
        yield f"- stopping: {short(spec['stopping'])}"
    if spec["seeds"]:
        yield f"- {SEED}: {', '.join(map(short, spec['seeds']))}"
    yield ""
    yield f"`GET /v1/sweeps/{sweep.id}/comparison`, `gradfleet compare {sweep.id}`"


def _drawn(draw: Mapping[str, Any]) -> str:
    (kind, values), *_ = ((kind, values) for kind, values in draw.items() if values is not None)
    if kind == "choices":
        return f"one of {', '.join(map(short, values))}"
    return f"{kind.replace('_', '-')} from {values[0]} to {values[1]}"
