"""Gradfleet: exact distributed batch training.

`Client`, with `Job`, `Sweep` and the errors, talks to a service over its REST API. The other names are the engine's:
graphs, layers, losses and optimizers for training in this process. Each of the two is imported when one of its names is
first used.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from core import *  # noqa: F403
    from service.client import *  # noqa: F403

    __version__: str

_SITE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib is slow to import
_CLIENT = {
    "AddressError",
    "ApiError",
    "Client",
    "DownloadError",
    "GradfleetError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobNotSucceededError",
    "Sweep",
    "TokenFormError",
    "UnreachableError",
}


if not TYPE_CHECKING:  # a type checker knows the names from the imports above, and reports any other

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            value: Any = version("gradfleet")
        elif name == "__all__":
            value = sorted(_CLIENT.union(_load("core").__all__))
        elif name in _CLIENT:
            value = getattr(_load("service.client"), name)
        elif not name.startswith("_") and name in (engine := _load("core")).__all__:
            value = getattr(engine, name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return [*__getattr__("__all__"), "__version__"]


class _Installed:
    """Finder of the packages that are installed next to this one.

    A script's own directory may contain packages with the same names. Python searches that directory first, so this
    finder is put before all others while one of our packages is imported.
    """

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /) -> ModuleSpec | None:
        """The specification of a top-level package of Gradfleet."""
        return PathFinder.find_spec(name, [_SITE]) if name in {"core", "service"} else None


def _load(module: str) -> ModuleType:
    name = module.partition(".")[0]
    package = sys.modules.get(name)
    if package is not None:
        places = list(getattr(package, "__path__", ()))
        if os.path.join(_SITE, name) not in places:  # noqa: PTH118
            other = getattr(package, "__file__", None) or ", ".join(places)
            raise ImportError(
                f"Gradfleet's package {name!r} cannot be imported: another module of this name is loaded from {other}"
            )
    sys.meta_path.insert(0, _Installed)
    try:
        return import_module(module)
    finally:
        sys.meta_path.remove(_Installed)
