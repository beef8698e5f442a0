"""Where MLflow shows things: pages to append to the address of its server."""

from __future__ import annotations

# MLflow's pages open on another kind of work unless the link says otherwise.
TRAINING = "workflowType=machine_learning"


def run_page(experiment_id: str, run_id: str) -> str:
    """A run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def runs_page(experiment_id: str, view: str) -> str:
    """The runs of an experiment in a prepared view."""
    return f"#/experiments/{experiment_id}/runs?{TRAINING}&viewStateShareKey={view}"


def charts_page(experiment_id: str, view: str) -> str:
    """The runs of a prepared view compared in charts."""
    return f"{runs_page(experiment_id, view)}&compareRunsMode=CHART"
