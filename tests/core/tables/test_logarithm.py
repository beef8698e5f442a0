from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.tables.logarithm import log1p
from workers.machine.arithmetic import levels_here


def logarithms(numbers: list[float]) -> list[float]:
    x = np.array(numbers, np.float64)[:, None]
    return log1p(x, [np.empty_like(x) for _ in range(5)])[:, 0].tolist()


@given(st.lists(st.floats(-0.9999999, 3e38), min_size=1, max_size=20))
def test_it_is_the_logarithm_to_11_digits(numbers: list[float]) -> None:
    for number, found in zip(numbers, logarithms(numbers), strict=True):
        assert math.isclose(found, math.log1p(number), rel_tol=1e-11, abs_tol=0), number


def test_numbers_near_0_and_at_the_ends() -> None:
    lowest = float(np.nextafter(np.float32(-1), np.float32(0)))
    numbers = [0.0, 1e-300, -1e-20, 1e-8, -1e-8, 1.0, lowest, 3.4e38, 2**-0.5 - 1, 2.0**0.5 - 1]
    for number, found in zip(numbers, logarithms(numbers), strict=True):
        assert math.isclose(found, math.log1p(number), rel_tol=1e-11, abs_tol=0), number


DIGEST = """
import hashlib
import numpy as np
from core.tables.logarithm import log1p
random = np.random.default_rng(0)
x = np.ldexp(random.uniform(-1, 1, (10_007, 3)), random.integers(-30, 1, (10_007, 3)))
print(hashlib.sha256(log1p(x, [np.empty_like(x) for _ in range(5)]).tobytes()).hexdigest())
"""


def test_the_bits_do_not_depend_on_the_instruction_set() -> None:
    digests = {
        subprocess.check_output([sys.executable, "-c", DIGEST], env=os.environ | level.environment)
        for level in levels_here()
    }
    assert len(digests) == 1
