import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import He, Linear, ParameterLayout, Purpose, RandomKey, build_classifier, generator, initialize
from core.random import Noise


def test_streams_are_unchanged():
    # Recorded values. If they change, the results of earlier jobs cannot be reproduced.
    drawn = generator(7, Purpose.ORDER, epoch=2, step=3, stream=4).permutation(8).tolist()
    assert drawn == [5, 2, 7, 1, 0, 3, 4, 6]
    normal = generator(7, Purpose.INITIAL).standard_normal(2).tolist()
    assert normal == [-0.04739161673254484, -1.192916693828728]


ARGUMENTS = st.tuples(
    st.integers(0, 2**63 - 1),
    st.sampled_from(Purpose),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)


def draw(arguments):
    seed, purpose, epoch, step, stream = arguments
    return generator(seed, purpose, epoch=epoch, step=step, stream=stream).integers(0, 2**63, 4).tolist()


@given(ARGUMENTS, ARGUMENTS)
def test_streams_are_equal_only_for_equal_arguments(one, other):
    assert draw(one) == draw(one)
    assert (draw(one) == draw(other)) == (one == other)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_raise(seed):
    with pytest.raises(ValueError, match=rf"seed must be in .* not {seed}"):
        generator(seed, Purpose.INITIAL)


def layout_of(*units):
    return ParameterLayout(build_classifier([Linear(units=each) for each in units], 5).parameters())


def test_initial_values_do_not_depend_on_other_parameters_or_dtype():
    short, long = layout_of(8, 3), layout_of(8, 4, 3)
    one = short.views(initialize(short, 1))
    other = long.views(initialize(long, 1))
    np.testing.assert_array_equal(one["0_linear.weight"], other["0_linear.weight"])
    double = short.views(initialize(short, 1, np.float64))
    np.testing.assert_array_equal(double["0_linear.weight"].astype(np.float32), one["0_linear.weight"])


def test_initial_values_depend_on_parameter_and_seed():
    layout = layout_of(5, 5)
    views = layout.views(initialize(layout, 1))
    assert not np.array_equal(views["0_linear.weight"], views["scores.weight"])
    assert not np.array_equal(initialize(layout, 1), initialize(layout, 2))
    assert not views["scores.bias"].any()


def test_padding_is_zero():
    layout = layout_of(7, 3)
    vector = initialize(layout, 1)
    for view in layout.views(vector).values():
        assert view.ctypes.data % 64 == 0
        view.fill(0)
    assert not vector.any()


def test_variance_of_he():
    values = He().draw(np.random.default_rng(0), (200, 500))
    # The relative standard error of the variance of n normal values is sqrt(2 / n), which is 0.45% here. The tolerance
    # is five standard errors.
    assert values.var() == pytest.approx(2 / 200, rel=5 * (2 / values.size) ** 0.5)
    assert abs(values.mean()) < 5 * (2 / 200 / values.size) ** 0.5


def test_noise_is_unchanged():
    # Recorded values. If they change, the results of earlier jobs with dropout cannot be reproduced.
    array = np.empty(3, np.float32)
    Noise("drop", array, np).fill(RandomKey(7, epoch=2, step=3, shard=5))
    assert array.tolist() == [0.3786201477050781, 0.01432037353515625, 0.22794437408447266]


def test_noise_does_not_depend_on_earlier_draws():
    array = np.empty((5, 3), np.float32)
    noise = Noise("drop", array, np)
    noise.fill(RandomKey(1))
    first = array.tobytes()
    noise.fill(RandomKey(2, 3, 4, 5))
    assert array.tobytes() != first
    noise.fill(RandomKey(1))
    assert array.tobytes() == first
