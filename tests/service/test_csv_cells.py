from __future__ import annotations

import csv
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.comparison import comparison_csv
from service.csv_cells import cell
from service.jobs.series.formats import csv_pieces
from service.jobs.series.stored import Page
from service.sweeps.schemas import ComparisonView
from service.tracking.sweeps.tables import comparison_files

FORMULA = "=-+@\t\r\n－＝＋＠"  # characters with which a formula, or what hides one, begins


@pytest.mark.parametrize(
    ("text", "safe"),
    [("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"),
     ("\t=1", "'\t'=1"), ("\r=1", "'\r'=1"), ("  =1", "'  =1"), (" \r", "' \r"), ("＝1", "'＝1"), ("-", "'-"), ("a;=1",
     "a;'=1"),
     ("a\n=1", "a\n'=1"), ('a",=1', 'a",\'=1'), ("val/loss", "val/loss"), ("a=b", "a=b"), ("", ""), ("a-b", "a-b"),
     ("-1.5", "-1.5"), ("+3", "+3"), ("-1e-05", "-1e-05"), ("-1.5x", "'-1.5x"), ("[0.1, -0.2]", "[0.1, -0.2]"),
     ("-inf", "'-inf"), (-1.5, -1.5), (None, None), (float("-inf"), float("-inf"))],
)  # fmt: skip
def test_cells(text: Any, safe: Any) -> None:
    assert cell(text) == safe


@given(st.text(st.sampled_from(FORMULA + " ,;\"'a1.e")))
def test_no_part_of_a_cell_begins_a_formula(text: str) -> None:
    safe = cell(text)
    assert safe.replace("'", "") == text.replace("'", "")
    try:
        float(text)
    except ValueError:
        for separator in ",;\t\r\n":
            assert not any(part[:1] in set("=-+@－＝＋＠") for part in safe.split(separator) if part)
        assert safe.lstrip(" ")[:1] not in set(FORMULA) or not safe


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_stay_numbers(number: float) -> None:
    assert cell(number) == number
    assert float(cell(repr(number))) == number


def safe_rows(text: str) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(text, newline="")))
    for value in (value for row in rows for value in row if value):
        try:
            float(value)
        except ValueError:
            assert value[0] not in FORMULA
    return rows


HOSTILE = '=HYPERLINK("http://x","y")'


def test_the_points_of_a_job() -> None:
    points = {HOSTILE: ([1, 2], [-1.5, float("-inf")]), "train/loss": ([1], [-2e-8])}
    pages = {name: [Page(np.array(steps), np.array(values), last=True)] for name, (steps, values) in points.items()}
    series: Any = SimpleNamespace(names=list(pages), pages=pages.get)
    rows = safe_rows(b"".join(csv_pieces(series)).decode())
    assert rows[1:] == [["1", f"'{HOSTILE}", "-1.5"], ["2", f"'{HOSTILE}", "-inf"], ["1", "train/loss", "-2e-08"]]


def test_the_comparison_of_a_sweep() -> None:
    numbers = {"mean": -1.5, "std": None, "n": 1}
    group: Any = {
        "overrides": {HOSTILE: "@x", "loss.type": {"type": "-x"}, "lr": -0.5}, "loss": "=", "jobs": [],
        "n": 1, "left_out": 0,        "metrics": {"=m": numbers},
    }  # fmt: skip
    comparison: Any = {
        "groups": [group],
        "best": None,
        "best_per_loss": {},
        "metric": "=m",
        "members": [],
        "left_out": 0,
    }
    head, row = safe_rows(comparison_csv(comparison))
    assert dict(zip(head, row, strict=True)) == {
        "best": "", f"'{HOSTILE}": "'@x", "loss.type": "'-x", "lr": "-0.5", "n": "1", "left_out": "0",
        "'=m mean": "-1.5",        "'=m std": "", "'=m n": "1",
    }  # fmt: skip


def test_the_comparison_in_mlflow() -> None:
    member = {
        "id": "job_1", "name": HOSTILE, "overrides": {HOSTILE: "+x", "lr": -0.5}, "state": "succeeded", "reason": None,
        "metrics": {"val/loss": -1.5}, "best": {}, "steps": 1, "seconds": None, "params_sha256": None, "mlflow": None,
    }  # fmt: skip
    comparison = ComparisonView.model_validate({
        "id": "sweep_1", "mlflow": None, "metric": "val/loss", "metrics": ["val/loss"], "members": [member],
        "groups": [], "left_out": 0, "best": None, "best_per_loss": {},
    })  # fmt: skip
    head, row = safe_rows(comparison_files(comparison)["comparison.csv"].decode())
    found = dict(zip(head, row, strict=True))
    assert (found["name"], found[f"'{HOSTILE}"], found["lr"], found["val/loss"]) == (
        f"'{HOSTILE}",
        "'+x",
        "-0.5",
        "-1.5",
    )
