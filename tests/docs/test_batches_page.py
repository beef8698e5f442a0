"""The examples of docs/batches.md are valid specs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from workers.job.spec import DataSpec

PAGE = (Path(__file__).parents[2] / "docs" / "batches.md").read_text()


def test_examples_are_valid_specs() -> None:
    examples = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 3
    specs = [DataSpec.model_validate(json.loads(example)) for example in examples]
    assert [each.standardize for each in specs] == [False, True, True]
    assert [each.split is not None for each in specs] == [False, True, False]
    shuffle = specs[2].shuffle.model_dump()
    # The page shows the default sizes.
    assert DataSpec.model_validate({"dataset": "d", "shuffle": {"type": "chunks"}}).shuffle.model_dump() == shuffle
