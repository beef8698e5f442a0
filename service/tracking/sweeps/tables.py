"""The comparison of a sweep as files: JSON, CSV, and a table for MLflow's pages."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from service.csv_cells import cell
from service.tracking.mlflow.entries import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.sweeps.schemas import ComparisonView

GROUPS_TABLE = "groups.json"
# The tag by which MLflow finds tables among the artifacts.
TABLES_TAG = ("mlflow.loggedArtifacts", json.dumps([{"path": GROUPS_TABLE, "type": "table"}]))


def comparison_files(comparison: ComparisonView) -> dict[str, bytes]:
    """Return the content of each file by its path."""
    return {
        "comparison.json": comparison.model_dump_json(indent=1).encode(),
        "comparison.csv": _members_csv(comparison).encode(),
        GROUPS_TABLE: json.dumps(_groups_table(comparison)).encode(),
    }


def _members_csv(comparison: ComparisonView) -> str:
    rows: list[dict[str, Any]] = []
    for member in comparison.members:
        row = {"id": member.id, "name": member.name, "state": member.state.value}
        run = {"run_id": member.mlflow.run_id if member.mlflow else None, "params_sha256": member.params_sha256}
        cost = {"steps": member.steps, "seconds": member.seconds}
        rows.append({**row, **dict(flatten(member.overrides)), **member.metrics, **cost, **run})
    return _csv(rows)


def _groups_table(comparison: ComparisonView) -> dict[str, Any]:
    """Return one row per group, in the format of pandas' orient="split"."""
    rows: list[dict[str, Any]] = []
    for group in comparison.groups:
        row = {**dict(flatten(group.overrides)), "n": group.n}
        for name, statistic in group.metrics.items():
            row |= {name: statistic.mean, f"{name} std": statistic.std}
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(text)
    writer.writerow(map(cell, columns))
    writer.writerows([cell(row.get(name, "")) for name in columns] for row in rows)
    return text.getvalue()
