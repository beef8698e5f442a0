"""Levels of arithmetic: instruction sets for which every CPU that has them computes the same bits.

OpenBLAS and NumPy choose their kernels by the CPU, and different kernels round differently. A level names one kernel
of each, by environment variables that must be set before NumPy is imported.

    python -m workers.machine.arithmetic ray start ...

runs a command as a node of the cluster: with the variables of this machine's level, and with those that tell Ray's
scheduler which levels the machine has.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Arithmetic = Literal["x86-64-v2", "x86-64-v3", "x86-64-v4", "armv8-a"]

SETTING = "GRADFLEET_ARITHMETIC"
LABEL = "gradfleet/arithmetic"  # of a Ray node: the level of its processes
ROOM = 1_000_000  # of each level that a Ray node has; a worker takes 1

_X86_FEATURES = ("X86_V3", "X86_V4", "AVX512_ICL", "AVX512_SPR")
_ARM_FEATURES = ("ASIMDHP", "ASIMDDP", "ASIMDFHM", "SVE")


class Level(NamedTuple):
    """A level: OpenBLAS's kernel, NumPy's features that are used and those that are not, and Numba's target."""

    name: Arithmetic
    kernel: str
    used: tuple[str, ...]
    unused: tuple[str, ...]
    target: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables that set the level of a process that has not imported NumPy yet. BLAS has one thread."""
        return {
            "OPENBLAS_CORETYPE": self.kernel,
            "OPENBLAS_NUM_THREADS": "1",
            "NPY_DISABLE_CPU_FEATURES": " ".join(self.unused),
            "NUMBA_CPU_NAME": self.target,
            "NUMBA_CPU_FEATURES": "",  # those of the target, not of the CPU
        }


class LevelError(RuntimeError):
    """This process does not compute at the level that a job asks for."""


def _x86(name: Arithmetic, kernel: str, features: int, target: str) -> Level:
    return Level(name, kernel, _X86_FEATURES[:features], _X86_FEATURES[features:], target)


# By machine, as `platform` names it, from the lowest level to the highest.
LEVELS: Mapping[str, tuple[Level, ...]] = {
    "x86_64": (
        _x86("x86-64-v2", "Nehalem", 0, "nehalem"),
        _x86("x86-64-v3", "Haswell", 1, "haswell"),
        _x86("x86-64-v4", "SkylakeX", 2, "skylake-avx512"),
    ),
    "aarch64": (Level("armv8-a", "ARMV8", (), _ARM_FEATURES, "generic"),),
}
ALL = {level.name: level for levels in LEVELS.values() for level in levels}


def levels_here() -> list[Level]:
    """The levels that this machine's CPU has, from the lowest to the highest; none if the machine is not known."""
    # A process of its own, because the variables of a level hide what the CPU has.
    code = "import numpy, json; print(json.dumps(numpy.show_config('dicts')['SIMD Extensions']))"
    pinned = set().union(*(level.environment for level in ALL.values()))
    environment = {name: value for name, value in os.environ.items() if name not in pinned}
    command = [sys.executable, "-P", "-c", code]
    found = json.loads(subprocess.check_output(command, env=environment, text=True))  # noqa: S603
    features = {feature for kind in ("baseline", "found") for feature in found.get(kind, ())}
    return [level for level in LEVELS.get(platform.machine(), ()) if features.issuperset(level.used)]


def node_environment(chosen: Arithmetic | None = None) -> dict[str, str]:
    """Variables for a Ray node on this machine: those of its highest level, and all its levels for Ray's scheduler.

    The highest level is `chosen`, by default that of the CPU. Raises LevelError if the CPU does not have it.
    """
    here = levels_here()
    names = [level.name for level in here]
    if chosen is not None and chosen not in names:
        known = ", ".join(names) or "none that is known"
        raise LevelError(f"{SETTING} is {chosen!r}, and this machine's CPU has {known}: must be one of them")
    offered = here[: names.index(chosen) + 1] if chosen is not None else here
    if not offered:
        return {}
    return {
        **offered[-1].environment,
        "RAY_OVERRIDE_RESOURCES": json.dumps({level.name: ROOM for level in offered}),
        "RAY_OVERRIDE_LABELS": json.dumps({LABEL: offered[-1].name}),
    }


def check_level(name: str, fingerprint: Mapping[str, str]) -> None:
    """Check that the process with this fingerprint computes at a level. Raises LevelError."""
    level = ALL[name]  # type: ignore[index]
    expected = {"blas_kernel": level.kernel, "simd": " ".join(level.used)}
    wrong = [
        f"{part} {fingerprint[part]!r} instead of {value!r}"
        for part, value in expected.items()
        if fingerprint[part] != value
    ]
    if wrong:
        raise LevelError(f"a worker for arithmetic {name} has {' and '.join(wrong)}")


def main() -> None:
    """Run the command of the arguments as a node of the cluster."""
    try:
        environment = node_environment(os.environ.get(SETTING) or None)  # type: ignore[arg-type]
    except LevelError as error:
        sys.exit(str(error))
    os.execvpe(sys.argv[1], sys.argv[1:], os.environ | environment)  # noqa: S606  the operator's command


if __name__ == "__main__":
    main()
