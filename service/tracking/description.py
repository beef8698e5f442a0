"""The description of a run, besides params and metrics: tags, a note, and the dataset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.datasets.outputs import output_names, positive_class
from service.jobs.figures import all_figures, kept
from service.jobs.states import State
from service.tracking.markdown import code, literal, table_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.store.models import Job

NOTE = "mlflow.note.content"  # shown as Markdown on the page of the run
# Beside the metric by which the job's task is ranked, those of them that the job has.
NOTED = ("val/root_mean_squared_error", "val/mean_absolute_error", "val/roc_auc", "val/loss", "train/loss")
IN_UNITS = NOTED[:2]
OF_TARGETS = ("r2", "root_mean_squared_error", "mean_absolute_error")  # in the table of targets
MEANS = {f"val/{name}" for name in OF_TARGETS}
MOST_TARGETS = 12
LONGEST_DIGEST = 36  # characters, a limit of MLflow


def tags_of(job: Job, fingerprint: Mapping[str, str]) -> dict[str, str]:
    """Return the current tags of a job. `fingerprint` is that of the last attempt's machine, empty before the first."""
    tags = {f"gradfleet.label.{label.key}": label.value for label in job.labels}
    tags |= {f"gradfleet.fingerprint.{name}": value for name, value in fingerprint.items()}
    tags["gradfleet.attempts"] = str(job.attempt)
    if job.params_sha256 is not None:
        tags["gradfleet.params_sha256"] = job.params_sha256
    if job.reason is not None:
        tags["gradfleet.reason"] = job.reason
    return tags | {NOTE: "\n".join(_note(job))}


def dataset_input(job: Job) -> dict[str, Any]:
    """Return the dataset as an input of the run, without the path of its file."""
    name, digest = job.spec["data"]["dataset"], job.dataset["digest"]
    targets = {"targets": job.dataset["targets"]} if job.dataset.get("targets") else {}
    return {
        "tags": [{"key": "mlflow.data.context", "value": "training"}],
        "dataset": {
            "name": name,
            "digest": digest[:LONGEST_DIGEST],
            "source_type": "gradfleet",
            "source": json.dumps({"dataset": name, "sha256": digest}),
            "profile": json.dumps({key: job.dataset[key] for key in ("rows", "features", "classes")} | targets),
        },
    }


def _note(job: Job) -> Iterator[str]:
    # The most important lines come first, since MLflow truncates long notes.
    spec, dataset = job.spec, job.dataset
    steps = f"{job.step:,} of {job.total_steps:,} steps"
    yield f"**{State(job.state).capitalize()}** after {steps}" + (f": {literal(job.reason)}" if job.reason else "")
    yield ""
    values, targets = all_figures(job), dataset.get("targets", 0)
    for name in dict.fromkeys([*job.validation_metrics[:1], *NOTED]):
        shown = name + _meaning(name, targets)
        last = f"last value **{_text(values[name])}**" if name in values else ""
        if job.kept is not None and kept(name) in values:
            of_kept = (
                f"**{_text(values[kept(name)])}** with the kept parameters, those after epoch {job.kept['epoch']:,}"
            )
            yield f"- {shown}: " + "; ".join(filter(None, [of_kept, last]))
        elif last:
            yield f"- {shown}: {last}"
    yield from _table_of_targets(job)
    yield ""
    positive = positive_class(dataset["classes"])
    yield f"- task: {job.task}" + ("" if positive is None else f"; positive class: {literal(positive)}")
    yield (
        f"- dataset: {code(spec['data']['dataset'])}, {dataset['rows']:,} rows of {dataset['features']:,} features, "
        f"{_truth(dataset)}; {_split(spec['data'])}"
    )
    if spec["data"].get("standardize_targets"):
        yield "- targets: standardised for training; train/loss and val/loss are of the standardised targets"
    yield f"- loss: {short(spec['loss'])}; penalties: {_fields(spec['regularization'])}"
    yield f"- optimizer: {short(spec['optimizer'])}"
    yield f"- training: {_fields(spec['training'])}"
    yield f"- job: `GET /v1/jobs/{job.id}`; to run it again, post `model/spec.yaml` from the artifacts to `/v1/jobs`"
    yield f"- model: {_chain(spec['model']['layers'])}"
    for head in spec["model"].get("heads", []):
        yield f"- head that reads {code(head['reads'])}, weight {head['weight']}: {_chain(head['layers'])}"


def _meaning(name: str, targets: int) -> str:
    """Return what a metric of the targets' errors is a mean over, and its unit."""
    if targets > 1 and name in MEANS:
        return f", mean over {targets:,} targets{', each in its own units' if name in IN_UNITS else ''}"
    return ", in the targets' own units" if name in IN_UNITS else ""


def _table_of_targets(job: Job) -> Iterator[str]:
    """Yield the lines of a table with the main metrics of each target of a regression, if there are several."""
    figures, names = (job.evaluation or {}).get("per_target", {}), output_names(job.dataset)
    columns = {name: figures[name] for name in OF_TARGETS if name in figures}
    if not columns or len(names) < 2:
        return
    yield ""
    yield table_row(["target", *columns])
    yield f"|{' --- |' * (1 + len(columns))}"
    for index, name in enumerate(names[:MOST_TARGETS]):
        yield table_row([literal(name), *(_text(values[index]) for values in columns.values())])
    yield ""
    more = (
        f" The other {len(names) - MOST_TARGETS:,} are in `model/evaluation.json`." if len(names) > MOST_TARGETS else ""
    )
    yield f"Of each target, in its own units, with the kept parameters.{more}"


def _chain(layers: Sequence[Any]) -> str:
    return " → ".join(map(short, layers))


def _truth(dataset: Mapping[str, Any]) -> str:
    """What the rows have besides features."""
    classes, targets = len(dataset["classes"]), dataset.get("targets", 0)
    return f"{classes:,} classes" if classes else f"{targets:,} target{'' if targets == 1 else 's'}"


def _text(value: float | None) -> str:
    return "not a finite number" if value is None else format(value, ".4g")


def _split(data: Mapping[str, Any]) -> str:
    if (split := data.get("split")) is None:
        return f"{data['validation']:.0%} kept for validation"
    train, validation = (literal(", ".join(split[part])) or "none" for part in ("train", "validation"))
    return f"split by a column: {train} to train on, {validation} for validation"


def short(value: Any) -> str:
    """Return a value of a spec as short Markdown; a layer, loss or optimizer as "hinge (margin 1.0)"."""
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return f"({_chain(value)})"  # the layers of a block
    if not isinstance(value, dict) or "type" not in value:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)
        return literal(text)
    name, fields = literal(str(value["type"])), _fields(value)
    return f"{name} ({fields})" if fields else name


def _fields(part: Mapping[str, Any]) -> str:
    fields = {name: value for name, value in part.items() if name != "type" and value is not None}
    return ", ".join(f"{literal(name)} {short(value)}" for name, value in fields.items())
