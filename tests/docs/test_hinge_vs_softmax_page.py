"""The values and the sweep in docs/hinge-vs-softmax.md agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from core import BATCH, Graph, Hinge, Loss, Plan, Program, SoftmaxCrossEntropy
from service.cli.demo.experiment import BASE, LOSSES, MISLABELLED, MODELS, SEEDS, VALIDATION, losses_sweep
from service.sweeps.schemas import SweepRequest
from workers.data.dataset import DatasetInfo
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "hinge-vs-softmax.md").read_text()


def losses_and_norms(loss: Loss, scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each row and the Euclidean norm of its gradient with respect to the scores."""
    graph = Graph()
    graph.input("scores", (BATCH, scores.shape[1]))
    graph.input("labels", (BATCH,), integer=True)
    graph.add("loss", loss, "scores", "labels")
    plan = Plan(Program.compile(graph, ["loss"], batch=len(scores), dtype=np.float64, wrt=["scores"]))
    plan.inputs["scores"][:], plan.inputs["labels"][:] = scores, labels
    plan.forward()
    plan.backward({"loss": 1.0})
    return plan.value("loss").copy(), np.linalg.norm(plan.gradient("scores"), axis=1)


def test_the_table_of_outliers() -> None:
    rows = re.findall(r"^\| (−?\d+) \|(.+)\|$", PAGE.partition("| d |")[2], re.MULTILINE)
    assert [distance for distance, _ in rows] == ["−5", "−1", "0", "1", "5", "20"]
    distances = np.array([float(distance.replace("−", "-")) for distance, _ in rows])
    # Two classes. The score of the label is lower than the other one by the distance.
    scores, labels = np.stack([np.zeros_like(distances), distances], axis=1), np.zeros(len(distances), int)
    columns = [
        column
        for loss in (Hinge(), Hinge(squared=True), SoftmaxCrossEntropy())
        for column in losses_and_norms(loss, scores, labels)
    ]
    shown = [[float(cell) for cell in cells.split("|")] for _, cells in rows]
    assert np.array(shown) == pytest.approx(np.stack(columns, axis=1), abs=0.0005)


def test_largest_gradient_norms_of_a_row_with_ten_classes() -> None:
    trailing, label = np.array([[0.0] + [5.0] * 9]), np.array([0])
    norm = losses_and_norms(Hinge(), trailing, label)[1][0]
    assert f"which is {norm:.2f}\nfor ten" in PAGE
    random = np.random.default_rng(0)
    scores, labels = random.normal(scale=20, size=(500, 10)), random.integers(0, 10, 500)
    for loss in (SoftmaxCrossEntropy(), Hinge(form="crammer_singer")):
        assert losses_and_norms(loss, scores, labels)[1].max() <= 2**0.5 + 1e-12


def test_sweep_equals_the_experiment_of_the_demo() -> None:
    sweep = SweepRequest.model_validate(yaml.safe_load((DOCS / "examples" / "mislabelled-digits.yaml").read_text()))
    assert sweep.over is not None
    assert sweep.over.grid is not None
    assert sweep.over.grid["data.dataset"] == list(MISLABELLED.values())
    assert sweep.seeds == list(SEEDS)
    data = {"dataset": "digits", **sweep.base["data"]}
    assert data["validation"] == VALIDATION
    assert {**sweep.base, "data": data} == BASE


def test_models_of_the_demo() -> None:
    digits = DatasetInfo("/nowhere", "0" * 64, 1797, 64, tuple("0123456789"), "uint8", (8, 8, 1))
    spec = {"name": "a job", **BASE, "loss": {"type": "hinge"}}
    jobs = {
        name: resolve(JobSpec.model_validate({**spec, "model": {"layers": layers}}), digits)
        for name, layers in MODELS.items()
    }
    assert {name: job.parameters for name, job in jobs.items()} == {"linear": 650, "hidden": 9610, "cnn": 8986}
    assert {name: job.spec.model.inputs for name, job in jobs.items()} == {"linear": 64, "hidden": 64, "cnn": [8, 8, 1]}
    for name, job in jobs.items():
        assert re.search(rf"\*{name}\*[^*]+\b{job.parameters:,}\sparameters", PAGE, re.IGNORECASE), name


def test_the_tables_have_every_classifier_of_the_demo() -> None:
    classifiers = [f"{loss}-{model}" for model in MODELS for loss in LOSSES]
    grid = losses_sweep()["over"]["grid"]
    assert (len(grid["model.layers"]), len(grid["loss.type"])) == (len(MODELS), len(LOSSES))
    rows = re.findall(r"^\| (\S+-\S+) +\|(.*)\|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == classifiers
    readme = re.findall(r"^│ (\S+-\S+) +│(.*)│$", (DOCS.parent / "README.md").read_text(), re.MULTILINE)
    # The same run.
    figures = [
        [(name, [cell.strip() for cell in re.split("[|│]", cells)]) for name, cells in table]
        for table in (rows, readme)
    ]
    assert figures[0] == figures[1]
    assert {cells[0] for _, cells in figures[0]} == {str(len(SEEDS))}
