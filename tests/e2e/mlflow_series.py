"""The comparison of a job's series in MLflow and in the API."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from service.tracking.series import MOST, bucket_width, chosen, mlflow_name
from tests.e2e.stack import series_of

if TYPE_CHECKING:
    from service.client import Job
    from tests.e2e.stack import Stack

PAGE = 500


def assert_exported(stack: Stack, job: Job) -> None:
    """Assert that MLflow has every series of an ended job: each point to export once, with the same bits."""
    series = series_of(job)
    assert "train/loss" in series
    for name, points in series.items():
        steps = np.array(points["steps"])
        values = np.array([math.nan if value is None else value for value in points["values"]])
        kept = chosen(steps, values, bucket_width(job["progress"]["total_steps"]), last=True)
        expected = list(zip(steps[kept].tolist(), [value.hex() for value in values[kept].tolist()], strict=True))
        assert history(stack, job["mlflow"]["run_id"], mlflow_name(name)) == expected, name
        assert len(kept) <= MOST


def history(stack: Stack, run_id: str, name: str) -> list[tuple[int, str]]:
    """Steps and values (in hexadecimal) of a series, read page by page from MLflow's REST API."""
    query: dict[str, Any] = {"run_id": run_id, "metric_key": name, "max_results": PAGE}
    found: list[tuple[int, str]] = []
    while True:
        answer = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/metrics/get-history", params=query, timeout=30)
        page = answer.raise_for_status().json()
        found += [(point["step"], float(point["value"]).hex()) for point in page.get("metrics", [])]
        if not page.get("next_page_token"):
            return sorted(found)
        query["page_token"] = page["next_page_token"]
