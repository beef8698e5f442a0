"""Figures in tables: the size of every number is shown, however small or large."""

from __future__ import annotations

import pytest

from service.cli.tables import figure, spread


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8424, "0.8424"), (0.0, "0.0000"), (1.0, "1.0000"), (-12.34567, "-12.3457"), (1234.5, "1234.5000"),
        (1.234567e-5, "1.235e-05"), (-0.00123456, "-0.001235"), (86053521204.7474, "8.605e+10"),
        (758950682609844224.0, "7.59e+17"),
    ],
)  # fmt: skip
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (0.963, 0.006, "0.9630 ± 0.0060"),
        (0.963, 0.0, "0.9630 ± 0.0000"),
        (0.963, 3e-5, "0.9630 ± 3e-05"),
        (1.2e-5, 3.4e-6, "1.2e-05 ± 3.4e-06"),
        (86053521204.7474, 30512634.6676, "8.605e+10 ± 3.051e+07"),
        (0.5, 2.5e9, "0.5000 ± 2.5e+09"),
    ],
)
def test_spreads(mean: float, deviation: float, text: str) -> None:
    assert spread(mean, deviation) == text
