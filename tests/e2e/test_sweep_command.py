"""A sweep through the whole stack, with one command."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import yaml

from tests.e2e.stack import GRADFLEET, Stack, digits_job

if TYPE_CHECKING:
    from pathlib import Path

    from service.client import Client


def test_a_sweep_is_run_and_compared_by_one_command(stack: Stack, client: Client, tmp_path: Path) -> None:
    base = digits_job()
    spec = {
        "name": base.pop("name"),
        "experiment": base.pop("experiment"),
        "base": base | {"resources": {"workers": 1}},
        "over": {"grid": {"loss.type": ["hinge", "softmax"]}},
        "seeds": [7, 8],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(spec))
    command = [*GRADFLEET, "sweep", str(tmp_path / "sweep.yaml"), "--watch", "--url", stack.api_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "4/4 ended  4 succeeded" in done.stdout
    sweep = client.find_sweep(done.stdout.split()[0])
    comparison = sweep.comparison()
    assert [(group["loss"], group["n"]) for group in comparison["groups"]] == [("hinge", 2), ("softmax", 2)]
    for group in comparison["groups"]:
        accuracy = group["metrics"]["val/accuracy"]
        assert accuracy["mean"] is not None
        assert accuracy["mean"] > 0.85
        assert f"{accuracy['mean']:.4f} ± {accuracy['std']:.4f}" in done.stdout
    digests = [member["params_sha256"] for member in comparison["members"]]
    assert len(set(digests)) == 4
    alone = client.submit(digits_job()).wait(timeout=60)
    assert alone["params_sha256"] == digests[0], "a member has the result of a single job, also with other workers"
