"""The examples of docs/preparation.md fit a table like the one they are about, and its table has every field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.workers.fixtures.helpers import job
from tests.workers.fixtures.tabular import passengers
from workers.job.index_columns import changed_indices, layers_with_few_entries
from workers.job.preparation import PrepareRule
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

PAGE = (Path(__file__).parents[2] / "docs" / "preparation.md").read_text()
EXAMPLES: list[dict[str, Any]] = [json.loads(each) for each in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_fit_a_table(tmp_path: Path, number: int) -> None:
    linear = {"model": {"layers": [{"type": "linear", "units": 2}]}}
    spec = job(**linear | EXAMPLES[number])
    for rule in spec["data"].get("prepare", []):
        rule["columns"] = [name for name in rule["columns"] if name != "weight_*"]
    given = JobSpec.model_validate(spec)
    resolved = resolve(given, passengers(tmp_path))
    graph = resolved.spec.model.graph()
    assert not list(changed_indices(given.data, graph, 0, resolved.treatments))
    assert not list(layers_with_few_entries(graph, resolved.treatments))
    if number == 2:
        (deck,) = [position for position, each in enumerate(resolved.treatments) if each.column.name == "deck"]
        assert sum(each.width for each in resolved.treatments[:deck]) == 10
        assert "`deck` is number 10 of the row" in PAGE


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


def test_the_table_has_every_field() -> None:
    assert re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE) == list(PrepareRule.model_fields)
