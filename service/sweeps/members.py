"""The jobs of a sweep, each checked against its dataset and the cluster before any is created."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from core import entry_from_spec, registered
from service.errors import MOST_PROBLEMS, InvalidError
from service.http.field_errors import quote
from service.sweeps.expansion import NoSuchPlaceError, expand, overridden
from service.sweeps.fields import field_of_request
from service.sweeps.making import MemberMaking
from service.sweeps.stopping import MedianStopping
from workers.job.checks.problems import FieldProblem, SpecError
from workers.job.metrics import RANKED_BY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.http.dependencies import Services
    from service.http.room import Stop
    from service.jobs.repository import NewJob
    from service.sweeps.schemas import SweepRequest
    from workers.job.resolve import ResolvedJob

MOST_BYTES = 32 * 1024**2  # of the JSON of all members
MOST_LAYERS = 20_000  # of all different models: each layer takes about a third of a millisecond


def members_of(sweep: SweepRequest, services: Services, stop: Stop) -> list[NewJob]:
    """The jobs of a sweep, as `member_rows` takes them.

    Raises InvalidError, which names the fields that are wrong; a problem that several members share is reported for
    the first of them. `stop` is checked before each member, and while it is checked.
    """
    members: list[NewJob] = []
    problems: dict[tuple[str, str], FieldProblem] = {}
    expanded = expand(sweep.over, sweep.seeds)
    _check_size(sweep, expanded)
    _check_comparison(sweep, len(expanded))
    specs = [_overridden(sweep, number, overrides) for number, overrides in enumerate(expanded)]
    _check_layers(specs)
    making = MemberMaking(services, stop)
    for number, (spec, overrides) in enumerate(zip(specs, expanded, strict=True)):
        stop.check()
        try:
            document = spec | {"name": f"{sweep.name}-{number}", "experiment": sweep.experiment}
            member, resolved = making.make(document)
            _check_stopping(sweep, resolved)
            members.append({**member, "overrides": overrides})
        except (SpecError, InvalidError) as error:
            for problem in error.problems:
                problems.setdefault((problem.field, problem.message), _located(problem, sweep, number, overrides))
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        raise InvalidError(*problems.values())
    _check_tasks(members)
    _check_differences(sweep, members)
    return members


def _check_tasks(members: Sequence[NewJob]) -> None:
    """Reject members that no metric compares."""
    ranked_by = {member["task"]: RANKED_BY[member["task"]] for member in members}
    if len(set(ranked_by.values())) > 1:
        tasks = " and ".join(f"{task} (ranked by {metric})" for task, metric in ranked_by.items())
        message = f"makes jobs for {tasks}, which cannot be compared: must make jobs that are ranked by one metric"
        raise InvalidError(FieldProblem("over", message))


def _check_size(sweep: SweepRequest, expanded: Sequence[dict[str, Any]]) -> None:
    """Reject members that are too large together: each of them is checked, and stored as a whole."""
    sizes: dict[int, int] = {}  # by identity: members share their values

    def size(value: Any) -> int:
        return sizes[id(value)] if id(value) in sizes else sizes.setdefault(id(value), len(json.dumps(value)))

    total = sum(size(sweep.base) + sum(map(size, overrides.values())) for overrides in expanded)
    if total > MOST_BYTES:
        message = f"makes {len(expanded)} jobs of {total:,} bytes in all; at most {MOST_BYTES:,} are allowed"
        raise InvalidError(FieldProblem("over", message))


def _check_layers(specs: Sequence[dict[str, Any]]) -> None:
    """Reject members whose models have too many layers together; equal models count once, since one is checked."""
    total, models = 0, set()
    for spec in specs:
        model = spec.get("model")
        if isinstance(model, dict) and (key := json.dumps(model, sort_keys=True)) not in models:
            models.add(key)
            for layers in _lists_of_layers(model):
                # Blocks take time to count, so beyond the limit they are no longer counted.
                total += sum(map(_size, layers)) if total <= MOST_LAYERS else len(layers)
    if total > MOST_LAYERS:
        message = (
            f"makes {len(models)} different models of {total:,} layers in all; at most {MOST_LAYERS:,} are allowed"
        )
        raise InvalidError(FieldProblem("over", message))


def _lists_of_layers(model: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the lists of layers of a model and of its heads, which may be wrong in any way."""
    heads = model.get("heads")
    for part in (model, *(heads if isinstance(heads, list) else ())):
        layers = part.get("layers") if isinstance(part, dict) else None
        if isinstance(layers, list):
            yield layers


def _size(entry: Any) -> int:
    """The number of layers that an entry of a model stands for; at least that for an invalid one."""
    if not isinstance(entry, dict) or entry.get("type") not in registered("block"):
        return 1
    try:
        return entry_from_spec(entry).size()
    except (TypeError, ValueError):
        return json.dumps(entry).count("{")


def _check_comparison(sweep: SweepRequest, members: int) -> None:
    """Reject a stopping rule that has too few members to compare."""
    rule = sweep.stopping
    if rule is None:
        return
    if members == 1:
        message = "compares members with each other: must be left out of a sweep with one member"
        raise InvalidError(FieldProblem("stopping", message))
    if isinstance(rule, MedianStopping) and rule.members >= members:
        message = (
            f"must be at most {members - 1}, not {rule.members}: each of the {members} members has {members - 1} "
            "others to be compared with"
        )
        raise InvalidError(FieldProblem("stopping.members", message))


def _check_differences(sweep: SweepRequest, members: Sequence[NewJob]) -> None:
    """Reject equal members, which would be counted as several; samples are drawn independently, and may be equal."""
    if sweep.over is None or sweep.over.random is not None:
        return
    seen: dict[str, int] = {}
    for number, member in enumerate(members):
        spec = json.dumps({**member["spec"], "name": None}, sort_keys=True)
        first = seen.setdefault(spec, number)
        if first != number:
            message = f"makes members {first} and {number} equal, with all defaults: each must have other values"
            raise InvalidError(FieldProblem("over", message))


def _overridden(sweep: SweepRequest, number: int, overrides: dict[str, Any]) -> dict[str, Any]:
    try:
        return overridden(sweep.base, overrides)
    except NoSuchPlaceError as error:
        place = field_of_request(sweep, number, overrides, error.field)
        raise InvalidError(FieldProblem(place, str(error))) from None


def _check_stopping(sweep: SweepRequest, resolved: ResolvedJob) -> None:
    """Reject a stopping rule that could never act on a member."""
    if sweep.stopping is None:
        return
    problems = []
    if (message := resolved.metrics.refusal(sweep.stopping.metric)) is not None:
        problems.append(FieldProblem("stopping.metric", message))
    if resolved.validation_rows == 0:
        message = f"must leave rows: stopping compares {sweep.stopping.metric}, which is of the validation rows"
        problems.append(FieldProblem(resolved.validation_field, message))
    epochs = resolved.spec.training.epochs
    if epochs <= (begins := sweep.stopping.begins):
        message = f"must be more than {begins}, not {epochs}: stopping begins after epoch {begins}"
        problems.append(FieldProblem("training.epochs", message))
    if problems:
        raise SpecError(problems)


def _located(problem: FieldProblem, sweep: SweepRequest, number: int, overrides: dict[str, Any]) -> FieldProblem:
    differences: Sequence[str] = [f"{field} = {quote(value)}" for field, value in overrides.items()]
    of = f" (member {number}: {', '.join(differences)})" if differences else ""
    of_sweep = problem.field.startswith("stopping.")
    field = problem.field if of_sweep else field_of_request(sweep, number, overrides, problem.field)
    return FieldProblem(field, problem.message + of)
