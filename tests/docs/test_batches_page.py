"""The examples of docs/batches.md are valid specs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.workers.fixtures.helpers import job
from workers.job.spec import DataSpec, JobSpec

PAGE = (Path(__file__).parents[2] / "docs" / "batches.md").read_text()


def test_examples_are_valid_specs() -> None:
    examples = [json.loads(example) for example in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert len(examples) == 5
    (loss,) = (example for example in examples if "type" in example)
    assert JobSpec.model_validate(job(loss=loss)).loss.to_spec() == {"label_smoothing": 0.0} | loss
    specs = [DataSpec.model_validate(example) for example in examples if "type" not in example]
    assert [each.standardize for each in specs] == [False, True, True, True]
    assert [each.split is not None for each in specs] == [False, True, False, False]
    assert [each.standardize_targets for each in specs] == [False, False, True, False]
    shuffle = specs[3].shuffle.model_dump()
    # The page shows the default sizes.
    assert DataSpec.model_validate({"dataset": "d", "shuffle": {"type": "chunks"}}).shuffle.model_dump() == shuffle
