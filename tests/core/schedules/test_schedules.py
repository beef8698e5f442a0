from math import cos, exp, log, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import (
    Constant,
    Cosine,
    ExponentialDecay,
    InverseDecay,
    MultistepDecay,
    PolynomialDecay,
    StepDecay,
    Warmup,
    registered,
)

STEPS = np.arange(10)
# A schedule and its factors at steps 0 to 9 of 10, in epochs of 5, from an equivalent formula.
SHAPES = [
    (Constant(), np.ones(10)),
    (Cosine(), np.cos(pi * STEPS / 20) ** 2),
    (StepDecay(every=4, decay=0.5), [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
    (StepDecay(every=100), np.ones(10)),
    (StepDecay(every_epochs=1), [1] * 5 + [0.1] * 5),
    (StepDecay(every_epochs=2), np.ones(10)),
    (StepDecay(every=1, decay=1), np.ones(10)),
    (ExponentialDecay(decay=0.8), np.exp(STEPS * log(0.8))),
    (InverseDecay(decay=0.5), [2 / (2 + step) for step in range(10)]),
    (InverseDecay(decay=0.5, power=0.75), np.exp(-0.75 * np.log1p(STEPS / 2))),
    (InverseDecay(decay=0.0), np.ones(10)),
    (PolynomialDecay(), [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    (PolynomialDecay(power=0.5), np.sqrt(np.arange(10, 0, -1) / 10)),
    (PolynomialDecay(power=3), (np.arange(10, 0, -1) / 10) ** 3),
    (PolynomialDecay(power=0), np.ones(10)),
    (MultistepDecay(at=(2, 3, 8)), [1, 1, 0.1, *[0.01] * 5, 0.001, 0.001]),
    (MultistepDecay(at=(1, 100), decay=0.5), [1, *[0.5] * 9]),
    (MultistepDecay(at_epochs=(1,)), [1] * 5 + [0.1] * 5),
    (MultistepDecay(at_epochs=(2, 3)), np.ones(10)),
    (Warmup(steps=3), [0.25, 0.5, 0.75, *[1] * 7]),
    (Warmup(epochs=1), [*(np.arange(1, 6) / 6), *[1] * 5]),
    (Warmup(epochs=1, then=StepDecay(every_epochs=1)), [*(np.arange(1, 6) / 6), *[1] * 5]),
    (Warmup(steps=9), np.linspace(0.1, 1, 10)),
    (Warmup(steps=4, then=StepDecay(every=3)), [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 0.1, 0.1, 0.1]),
    (Warmup(steps=2, then=Cosine()), [1 / 3, 2 / 3, *((1 + cos(pi * step / 8)) / 2 for step in range(8))]),
    (Warmup(steps=2, then=PolynomialDecay()), [1 / 3, 2 / 3, *(np.arange(8, 0, -1) / 8)]),
    (Warmup(steps=4, then=MultistepDecay(at=(2,))), [0.2, 0.4, 0.6, 0.8, 1, 1, *[0.1] * 4]),
    # The job ends at the same time as the warm-up, or earlier.
    (Warmup(steps=10, then=Cosine()), np.arange(1, 11) / 11),
    (Warmup(steps=19, then=Cosine()), np.arange(1, 11) / 20),
    (Warmup(steps=3, then=Warmup(steps=1, then=ExponentialDecay(decay=exp(-1)))), None),
]


def test_examples_cover_every_schedule():
    assert {type(schedule) for schedule, _ in SHAPES} == set(registered("schedule").values())


@pytest.mark.parametrize(("schedule", "expected"), SHAPES, ids=lambda value: str(value)[:60])
def test_factors_against_an_equivalent_formula(schedule, expected):
    factors = [schedule.factor(step, 10, 5) for step in range(10)]
    assert all(isinstance(factor, float) and 0 < factor <= 1 for factor in factors)
    if expected is not None:
        np.testing.assert_allclose(factors, expected, rtol=1e-14)
    if not isinstance(schedule, Warmup):
        assert factors[0] == 1
        assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (StepDecay, r"step needs step\.every or step\.every_epochs, and has neither"),
        (lambda: StepDecay(every=2, every_epochs=2), r"step needs step\.every or step\.every_epochs, not both"),
        (MultistepDecay, r"multistep needs multistep\.at or multistep\.at_epochs, and has neither"),
        (lambda: MultistepDecay(at=(2,), at_epochs=(2,)), r"multistep needs .*at_epochs, not both"),
        (Warmup, r"warmup needs warmup\.steps or warmup\.epochs, and has neither"),
        (lambda: Warmup(steps=2, epochs=2), r"warmup needs warmup\.steps or warmup\.epochs, not both"),
    ],
)
def test_a_length_is_given_in_steps_or_in_epochs(schedule, message):
    with pytest.raises(ValueError, match=message):
        schedule()


@pytest.mark.parametrize("field", ["at", "at_epochs"])
@pytest.mark.parametrize("changes", [(5, 9, 9), (5, 9, 2)], ids=str)
def test_the_changes_of_multistep_are_in_ascending_order(field, changes):
    message = rf"multistep\.{field}\[2\] must be greater than 9, the one before it, not {changes[2]}"
    with pytest.raises(ValueError, match=message):
        MultistepDecay(**{field: changes})


@given(
    at=st.lists(st.integers(1, 60), min_size=1, unique=True).map(sorted),
    decay=st.floats(0.1, 1),
    epoch=st.integers(1, 7),
    step=st.integers(0, 500),
)
def test_multistep_multiplies_once_for_each_change_that_has_passed(at, decay, epoch, step):
    rate = 1.0
    for each in at:
        rate *= decay if each * epoch <= step else 1
    for schedule in (MultistepDecay(at_epochs=at, decay=decay), MultistepDecay([n * epoch for n in at], decay=decay)):
        assert schedule.factor(step, 500, epoch) == pytest.approx(rate, rel=1e-13)


@pytest.mark.parametrize("schedule", [Cosine(), PolynomialDecay(), PolynomialDecay(power=0.5)], ids=str)
def test_cosine_and_poly_end_at_zero(schedule):
    assert schedule.factor(10, 10, 5) == 0


def test_nested_warmup_ends_at_the_first_factor_of_the_inner_one():
    schedule = Warmup(steps=3, then=Warmup(steps=1))
    assert [schedule.factor(step, 10, 5) for step in range(6)] == pytest.approx([0.125, 0.25, 0.375, 0.5, 1, 1])


@given(
    steps=st.integers(1, 50),
    total=st.integers(1, 100),
    then=st.sampled_from([schedule for schedule, _ in SHAPES if not isinstance(schedule, Warmup)]),
)
def test_warmup_is_linear_and_followed_by_the_other_schedule(steps, total, then):
    schedule = Warmup(steps=steps, then=then)
    rates = [schedule.factor(step, total, 5) for step in range(steps + 1)]
    np.testing.assert_allclose(np.diff(rates), 1 / (steps + 1), rtol=1e-9)
    assert rates[-1] == 1
    for step in range(steps, total):
        assert schedule.factor(step, total, 5) == then.factor(step - steps, total - steps, 5)


@given(decay=st.floats(0, exclude_min=True, max_value=1), step=st.integers(0, 10**9))
def test_extreme_values_give_factors_from_zero_to_one(decay, step):
    schedules = [StepDecay(every=1, decay=decay), ExponentialDecay(decay=decay)]
    schedules += [InverseDecay(decay=min(1 / max(decay, 1e-300), 1e12), power=power) for power in (0, 1, 1e12)]
    schedules += [MultistepDecay(at=(1, 10**6), decay=decay), PolynomialDecay(power=0), PolynomialDecay(power=1e12)]
    for schedule in schedules:
        assert 0 <= schedule.factor(step, 10**9, 5) <= 1
