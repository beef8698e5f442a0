from fractions import Fraction
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.kernels.power import power


@given(st.floats(0, 2), st.integers(0, 8), st.integers(0, 40))
def test_whole_powers_against_fractions(base, whole, more):
    expected = Fraction(base) ** (whole + more)
    assert power(base, whole + more) == pytest.approx(float(expected), rel=1e-14, abs=1e-300)


@given(st.floats(1e-6, 1e6), st.floats(0, 20))
def test_powers_against_the_c_library(base, exponent):
    assert power(base, exponent) == pytest.approx(base**exponent, rel=1e-13)


@given(st.integers(1, 2**15), st.integers(0, 3), st.integers(0, 3))
def test_powers_that_are_exact(root, whole, quarters):
    assert power(float(root**2), whole / 2) == root**whole
    assert power(16.0, quarters / 4) == 2**quarters


def test_ends():
    assert power(0.0, 0.0) == 1
    assert power(0.0, 0.5) == power(0.0, 3.0) == power(0.999, 1e12) == 0
    assert power(1.001, 1e12) == inf
    assert power(1.0, 1e12) == 1
