from math import sqrt

import numpy as np
import pytest

from core import (
    ConstantInitializer,
    Glorot,
    GlorotUniform,
    He,
    HeUniform,
    LeCun,
    LeCunUniform,
    Normal,
    Uniform,
    Zeros,
    registered,
)

INPUTS, OUTPUTS = 200, 500
# Variance for a weight of shape (200, 500), and whether the distribution is normal, uniform or a single value.
VARIANCES = [
    (He(), 2 / INPUTS, "normal"),
    (HeUniform(), 2 / INPUTS, "uniform"),
    (Glorot(), 2 / (INPUTS + OUTPUTS), "normal"),
    (GlorotUniform(), 2 / (INPUTS + OUTPUTS), "uniform"),
    (LeCun(), 1 / INPUTS, "normal"),
    (LeCunUniform(), 1 / INPUTS, "uniform"),
    (Normal(std=0.3), 0.09, "normal"),
    (Uniform(limit=0.3), 0.03, "uniform"),
    (Zeros(), 0, "value"),
    (ConstantInitializer(value=0.1), 0, "value"),
]


def test_examples_cover_every_initializer():
    assert {type(initializer) for initializer, _, _ in VARIANCES} == set(registered("initializer").values())


@pytest.mark.parametrize(("initializer", "variance", "form"), VARIANCES, ids=str)
def test_variance_and_distribution(initializer, variance, form):
    values = initializer.draw(np.random.default_rng(0), (INPUTS, OUTPUTS))
    assert values.dtype == np.float64
    if form == "value":
        assert np.unique(values).size == 1
        return
    # The kurtosis of a normal distribution is 3, that of a uniform one 1.8. The tolerances of mean and variance are
    # five standard errors.
    kurtosis = {"normal": 3, "uniform": 1.8}[form]
    n = values.size
    assert abs(values.mean()) < 5 * sqrt(variance / n)
    assert values.var() == pytest.approx(variance, rel=5 * sqrt((kurtosis - 1) / n))
    assert (values**4).mean() / values.var() ** 2 == pytest.approx(kurtosis, rel=0.05)
    if form == "uniform":
        limit = sqrt(3 * variance)
        assert np.abs(values).max() <= limit
        assert min(values.max(), -values.min()) > 0.999 * limit


@pytest.mark.parametrize("initializer", [initializer for initializer, _, _ in VARIANCES], ids=str)
@pytest.mark.parametrize("shape", [(), (7,), (0,), (3, 1), (2, 3, 4)], ids=str)
def test_any_shape_and_same_values_for_same_seed(initializer, shape):
    values = np.asarray(initializer.draw(np.random.default_rng(1), shape))
    assert values.shape == shape
    np.testing.assert_array_equal(initializer.draw(np.random.default_rng(1), shape), values)


def test_fans_count_the_entries_of_a_window():
    for initializer, variance in ((He(), 2 / 60), (GlorotUniform(), 2 / 6060), (LeCun(), 1 / 60)):
        values = initializer.draw(np.random.default_rng(0), (6, 10, 1000))
        assert values.var() == pytest.approx(variance, rel=0.05)


def test_values():
    assert (ConstantInitializer(value=-2.5).draw(np.random.default_rng(0), (2, 3)) == -2.5).all()
    assert not Normal(std=0.0).draw(np.random.default_rng(0), (5,)).any()
    assert not Uniform(limit=0.0).draw(np.random.default_rng(0), (5,)).any()
