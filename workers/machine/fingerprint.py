"""What the bits of a result may depend on besides the job: the machine and its numerical libraries."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

import numpy as np
from threadpoolctl import threadpool_info


def fingerprint() -> dict[str, str]:
    """Versions of NumPy, BLAS and the C library, BLAS's kernel, the architecture, and the SIMD features NumPy uses."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # Other packages, such as SciPy, may have loaded a BLAS of their own.
    blas = [library for library in libraries if "numpy" in library["filepath"]] or libraries
    config = np.show_config(mode="dicts")
    return {
        "numpy": np.__version__,
        "blas": ", ".join(sorted(f"{library['internal_api']} {library['version']}" for library in blas)),
        "blas_kernel": ", ".join(sorted({library.get("architecture", "unknown") for library in blas})),
        "machine": platform.machine(),
        "simd": " ".join(config["SIMD Extensions"].get("found", [])) if config else "",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
    }


class FingerprintError(RuntimeError):
    """The workers of an attempt run on machines or libraries that may not give the same bits."""


def check_equal(fingerprints: Sequence[Mapping[str, str]]) -> None:
    """Check that workers, in order of rank, have equal fingerprints. Raises FingerprintError with the first difference.

    The version of Python may differ, because no bit depends on it.
    """
    first = fingerprints[0]
    for rank, other in enumerate(fingerprints):
        names = differences(first, other).keys() - {"python"}
        if names:
            name = min(names)
            raise FingerprintError(
                f"worker 0 has {name} {first[name]!r}, and worker {rank} has {other[name]!r}: all nodes must have the "
                "same versions and kernels"
            )


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The entries of a fingerprint that differ, each as `before -> now`."""
    names = sorted(set(before) | set(now))
    return {name: f"{before.get(name)} -> {now.get(name)}" for name in names if before.get(name) != now.get(name)}
