"""Names that the API accepts are accepted by MLflow, by its own rules; others are rejected when a job is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils import validation
from pydantic import TypeAdapter, ValidationError

from service.jobs.labels import Labels
from service.tracking.mlflow.api import LONGEST_PARAM, LONGEST_TAG
from tests.service.fixtures.support import hinge_job
from workers.job.spec import Name, RegisteredName

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

TEXT = st.text(
    st.sampled_from("./:a-_ ~é\N{SNOWMAN}%'\"`\\") | st.characters(), min_size=1, max_size=12
) | st.sampled_from([".", "..", "..a", "a..", ". .", "./", "a/../b", "a//b", "a/", "a/.", "~", "a" * 200])
NAMES: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "registered_model_name": (RegisteredName, validation._validate_model_name),
    "experiment": (Name, validation._validate_experiment_name),
    "labels": (dict, lambda key: validation._validate_tag(f"gradfleet.label.{key}", "value")),
}


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.mark.parametrize("kind", NAMES)
@given(name=TEXT)
def test_mlflow_accepts_what_we_accept(kind: str, name: str) -> None:
    ours, theirs = NAMES[kind]
    try:
        if kind == "labels":
            TypeAdapter(Labels).validate_python({name: "value"})
        else:
            TypeAdapter(ours).validate_python(name)
    except ValidationError:
        return
    theirs(name)


def test_the_rules_of_mlflow_reject_something() -> None:
    for kind, name in {"registered_model_name": ".", "experiment": "", "labels": "a//b"}.items():
        with pytest.raises(MlflowException):
            NAMES[kind][1](name)


def test_long_values_are_cut_to_what_mlflow_stores() -> None:
    assert LONGEST_PARAM <= validation.MAX_PARAM_VAL_LENGTH
    assert LONGEST_TAG <= validation.MAX_TAG_VAL_LENGTH


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        *[("registered_model_name", name, "registered_model_name") for name in (".", "..", "..a", "a/b", "a:b", "")],
        *[("experiment", name, "experiment") for name in ("", " ", "a" * 201)],
        *[("labels", {key: "x"}, f"labels.{key}") for key in ("a//b", "a/./b", "a/../b", "a/")],
    ],
)  # fmt: skip
def test_a_name_that_mlflow_refuses_is_rejected(api: httpx.Client, field: str, value: Any, named: str) -> None:
    job = hinge_job(**{field: value})
    answer = api.post("/v1/jobs", json=job)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [named]
    base = {name: part for name, part in job.items() if name not in {"name", "experiment"}}
    sweep = {"name": "s", "base": base} | ({"experiment": value} if field == "experiment" else {})
    assert api.post("/v1/sweeps", json=sweep).status_code == 422
