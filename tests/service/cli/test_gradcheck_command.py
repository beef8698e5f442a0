from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from core import Linear, ReLU
from service.cli.main import app as command_line

if TYPE_CHECKING:
    from pathlib import Path

LAYERS: list[dict[str, Any]] = [
    {"type": "linear", "units": 7, "name": "stem"},
    {"type": "relu", "name": "left"},
    {"type": "linear", "units": 7, "inputs": ["stem"]},
    {"type": "add", "inputs": ["left", "2_linear"]},
    {"type": "batch_norm"},
    {"type": "dropout", "rate": 0.25},
    {"type": "linear", "units": 3},
]
PARAMETERS = [
    "stem.weight", "stem.bias", "2_linear.weight", "2_linear.bias", "4_batch_norm.scale", "4_batch_norm.shift",
    "scores.weight", "scores.bias",
]  # fmt: skip


def check(tmp_path: Path, *options: str, model: Any = None, **changes: Any) -> Any:
    spec = {
        "name": "checked",
        "data": {"dataset": "not used"},
        "model": {"inputs": 5, "layers": LAYERS} if model is None else model,
        "loss": {"type": "softmax"},
        "optimizer": {"type": "sgd"},
        "training": {"epochs": 1},
    } | changes
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(spec))
    return CliRunner().invoke(command_line, ["gradcheck", str(file), *options])


def rows(output: str) -> dict[str, list[str]]:
    """The rows of the table by their first column, without the header."""
    return {words[0]: words[1:] for line in output.splitlines()[1:-1] if (words := line.split())}


@pytest.mark.parametrize("seed", range(3))
def test_correct_gradients_pass(tmp_path: Path, seed: int) -> None:
    result = check(tmp_path, "--seed", str(seed))
    assert result.exit_code == 0, result.output
    found = rows(result.output)
    assert list(found) == ["features", *PARAMETERS]
    assert all(row[-1] == "ok" for row in found.values())
    assert f"seed {seed}" in result.output.splitlines()[-1]
    assert found["stem.bias"][-4:-1] == ["0", "of", "7"], "every entry is checked"


def test_a_model_of_images(tmp_path: Path) -> None:
    layers = [{"type": "conv2d", "filters": 2, "kernel": 2}, {"type": "flatten"}, {"type": "linear", "units": 3}]
    result = check(tmp_path, model={"inputs": [3, 4, 2], "layers": layers})
    assert result.exit_code == 0, result.output
    found = rows(result.output)
    assert list(found) == ["features", "0_conv2d.weight", "0_conv2d.bias", "scores.weight", "scores.bias"]
    assert found["0_conv2d.weight"][-4:-1] == ["0", "of", "16"]


@pytest.mark.parametrize("loss", ["hinge", "sigmoid_cross_entropy"])
def test_other_losses(tmp_path: Path, loss: str) -> None:
    assert check(tmp_path, loss={"type": loss}).exit_code == 0


def test_a_loss_of_one_score(tmp_path: Path) -> None:
    layers = [*LAYERS[:-1], {"type": "linear", "units": 1}]
    result = check(tmp_path, model={"inputs": 5, "layers": layers}, loss={"type": "soft_margin"})
    assert result.exit_code == 0, result.output


def test_a_seed_gives_the_same_samples(tmp_path: Path) -> None:
    first, second, other = (check(tmp_path, "--seed", seed).output for seed in ("5", "5", "6"))
    assert first == second
    assert rows(first)["scores.weight"] != rows(other)["scores.weight"]


def test_a_wrong_gradient_is_shown_with_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Linear.backward

    def wrong(self: Linear, xp: Any, upstream: Any, inputs: Any, output: Any, workspace: Any, gradients: Any) -> None:
        right(self, xp, upstream, inputs, output, workspace, gradients)
        if self.units == 3 and gradients[1] is not None:
            gradients[1][2, 1] *= 1.01

    monkeypatch.setattr(Linear, "backward", wrong)
    result = check(tmp_path)
    assert result.exit_code == 1
    found = rows(result.output)
    # Of the whole graph, and of the layer by itself.
    assert [name for name, row in found.items() if row[-1] == "FAILED"] == ["scores.weight", "scores"]
    row, column, backward, differences, error, *_ = found["scores.weight"]
    assert (row, column) == ("[2,", "1]")
    assert float(backward) == pytest.approx(1.01 * float(differences), rel=1e-6)
    assert float(error) <= 0.01 + 1e-9
    assert result.output.splitlines()[-1].startswith("2 FAILED")


def test_a_backward_that_changes_between_calls_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, calls = ReLU.backward, iter(range(1_000_000))

    def wrong(self: ReLU, *arguments: Any) -> None:
        right(self, *arguments)
        arguments[-1][0][...] *= 1 + 1e-14 * next(calls)

    monkeypatch.setattr(ReLU, "backward", wrong)
    result = check(tmp_path)
    assert result.exit_code == 1
    assert "FAILED: the gradient of stem.weight differs when backward is called twice" in result.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"layers": LAYERS}}, "model.inputs is required"),
        ({"model": {"inputs": 5, "layers": [{"type": "linaer"}]}}, "model.layers.0: 'linaer' is not a known type"),
        ({"model": {"inputs": 5, "layers": [{"type": "linear", "unit": 3}]}}, "model.layers.0.units: is required"),
        ({"model": {"inputs": 5, "layers": [{"type": "linear", "unit": 3}]}}, "did you mean 'units'?"),
        ({"model": {"inputs": 5, "layers": [LAYERS[2]]}}, "model.layers.0.inputs: layer"),
        ({"model": {"inputs": 5, "layers": [LAYERS[0], LAYERS[3]]}}, "model.layers.1.inputs: "),
        ({"loss": {"type": "binary_margin"}}, "loss: binary_margin is a loss for binary, not for classification"),
        ({"optimizer": {"type": "sgd", "schedule": {"type": "cosin"}}}, "did you mean 'cosine'?"),
    ],
)
def test_the_error_of_an_invalid_spec_names_the_field(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    result = check(tmp_path, **changes)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_missing_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(command_line, ["gradcheck", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "none.yaml cannot be read" in result.stderr


@pytest.mark.parametrize("seed", ["0", "1"])
@pytest.mark.parametrize("layer", [{"type": "reciprocal"}, *({"type": "power", "exponent": -n} for n in range(1, 5))])
def test_right_gradients_near_a_pole_do_not_fail(tmp_path: Path, layer: dict[str, Any], seed: str) -> None:
    model = {"inputs": 8, "layers": [layer, {"type": "linear", "units": 10}]}
    result = check(tmp_path, "--seed", seed, model=model)
    assert "FAILED" not in result.output
    assert (result.exit_code == 0) == ("UNCHECKED" not in result.output)


@pytest.mark.parametrize("layer", [{"type": "log"}, {"type": "power", "exponent": 3.5}])
def test_a_model_that_is_not_defined_for_the_samples_cannot_be_checked(tmp_path: Path, layer: dict[str, Any]) -> None:
    model = {"inputs": 8, "layers": [{**layer, "name": "undefined"}, {"type": "linear", "units": 10}]}
    result = check(tmp_path, model=model)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "UNCHECKED: the value of node 'undefined' is not finite in the forward pass",
        "1 cannot be checked, on 4 random rows with seed 0",
    ]
