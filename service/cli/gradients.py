"""Check of the gradients of a job's model and loss on random samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from core import Graph, GraphError, ModelError, with_loss
from core.gradcheck.model import check_model
from service.cli.spec_file import SpecFileError, read_spec
from service.http.field_errors import document_problems
from service.jobs.schemas import JobRequest
from workers.job.balanced import BalancedLoss

if TYPE_CHECKING:
    from pathlib import Path

    from core import Loss, Task
    from core.gradcheck.report import GradientReport


def check_spec(file: Path, rows: int, seed: int) -> GradientReport:
    """Check the gradients of the model and loss of a spec in float64. Raises SpecFileError if the spec is invalid."""
    spec = _spec(file)
    return check_model(_graph(spec, rows), rows, seed, spec.regularization.penalty)


def _spec(file: Path) -> JobRequest:
    document = read_spec(file)
    try:
        return JobRequest.model_validate(document)
    except ValidationError as error:
        problems = document_problems(error, document, JobRequest)
        raise SpecFileError(*(f"{file}: {problem.field}: {problem.message}" for problem in problems)) from error


def _graph(spec: JobRequest, rows: int) -> Graph:
    if spec.model.inputs is None:
        raise SpecFileError("model.inputs is required here: the number of features, or a shape such as [28, 28, 1]")
    if isinstance(spec.loss, BalancedLoss):
        raise SpecFileError("loss.class_weights must be numbers here: without a dataset there is nothing to balance")
    try:
        graph = spec.model.graph()
        graph = with_loss(graph, spec.loss, _task(spec.loss, graph))
        graph.shapes(rows)
    except ModelError as error:
        raise SpecFileError(f"model.{error.path}: {error}") from error
    except GraphError as error:
        raise SpecFileError(f"loss: {error}") from error
    return graph


def _task(loss: Loss, graph: Graph) -> Task:
    """The task of a job with this loss, as far as it can be known without a dataset."""
    if "regression" in loss.tasks:
        return "regression"
    return "binary" if graph.shapes()["scores"][1:] == (1,) else "classification"
