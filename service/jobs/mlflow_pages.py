"""Paths of MLflow's pages, relative to the address of its server."""

from __future__ import annotations

# Without it MLflow's pages open in another mode.
TRAINING = "workflowType=machine_learning"


def run_page(experiment_id: str, run_id: str) -> str:
    """Page of a run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def runs_page(experiment_id: str, view: str) -> str:
    """Page of the runs of an experiment in a prepared view."""
    return f"#/experiments/{experiment_id}/runs?{TRAINING}&viewStateShareKey={view}"


def charts_page(experiment_id: str, view: str) -> str:
    """Page that compares the runs of a prepared view in charts."""
    return f"{runs_page(experiment_id, view)}&compareRunsMode=CHART"
