from __future__ import annotations

import pytest

from workers.machine.fingerprint import FingerprintError, check_equal, fingerprint


def test_workers_with_another_version_of_python_may_train_together() -> None:
    here = fingerprint()
    check_equal([here, here | {"python": "3.99"}])


def test_the_first_difference_is_named() -> None:
    here = {"numpy": "2.4", "libc": "glibc 2.36", "python": "3.11"}
    message = r"worker 0 has libc 'glibc 2.36', and worker 2 has 'glibc 2.41'"
    with pytest.raises(FingerprintError, match=message):
        check_equal([here, here, here | {"libc": "glibc 2.41", "numpy": "2.5"}])
