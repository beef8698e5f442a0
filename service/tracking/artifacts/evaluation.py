"""The evaluation of the kept parameters as JSON: all metrics, and details of each label or target."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.datasets.outputs import named_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping


def evaluation_json(kept: Mapping[str, Any], details: Mapping[str, Any] | None, dataset: Mapping[str, Any]) -> bytes:
    """Return what a job's row has of its kept parameters, with the names of the dataset's classes or targets.

    The names are in the order in which `confusion` and the lists of `per_label` and `per_target` have them.
    """
    document = {**kept, **named_outputs(dataset), **(details or {})}
    return json.dumps(document, indent=2).encode() + b"\n"
