"""The names in `gradfleet`, what they import, and from which packages."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

import core
import gradfleet
from service import client

if TYPE_CHECKING:
    from pathlib import Path


def run(script: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code as a script. Python searches the directory of a script first for modules."""
    script.write_text(code)
    return subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)


def test_names_are_those_of_client_and_engine() -> None:
    for module in (client, core):
        for name in module.__all__:
            assert getattr(gradfleet, name) is getattr(module, name)
    assert gradfleet.__all__ == sorted({*client.__all__, *core.__all__})
    assert len(gradfleet.__all__) == len(client.__all__) + len(core.__all__), "a name is both in client and in core"
    assert set(dir(gradfleet)) == {*gradfleet.__all__, "__version__"}
    assert gradfleet.__version__ == version("gradfleet")


@pytest.mark.parametrize("name", ["Linaer", "arrays", "client", "_load_", "__wrapped__"])
def test_unknown_name_raises(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'gradfleet' has no attribute '{name}'"):
        getattr(gradfleet, name)


def test_a_name_imports_only_what_it_needs(tmp_path: Path) -> None:
    loaded = "print(*({'httpx', 'numpy', 'importlib.metadata', 'pyarrow', 'ray'} & set(sys.modules)))"
    for code, expected in (("import gradfleet", ""), ("from gradfleet import Client", "httpx"),
                           ("from gradfleet import Linear", "numpy")):  # fmt: skip
        assert run(tmp_path / "script.py", f"import sys\n{code}\n{loaded}").stdout.split() == expected.split(), code


def test_script_in_a_directory_with_packages_of_the_same_names(tmp_path: Path) -> None:
    for name in ("core", "service", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is another one')")
    code = "from gradfleet import *\nprint(Client.__name__, Linear(units=3).units, GradfleetError.__name__)"
    done = run(tmp_path / "script.py", code)
    assert done.stdout == "Client 3 GradfleetError\n", done.stderr


@pytest.mark.parametrize("file", ["{}/__init__.py", "{}.py"])
@pytest.mark.parametrize(("package", "name"), [("service", "Client"), ("core", "Linear")])
def test_error_names_a_module_of_the_same_name(tmp_path: Path, package: str, name: str, file: str) -> None:
    path = tmp_path / file.format(package)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    done = run(tmp_path / "script.py", f"import {package}\nfrom gradfleet import {name}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: Gradfleet's package {package!r} cannot be imported: "
        f"another module of this name is loaded from {path}"
    )


def test_modules_of_a_user_can_be_imported_with_the_client(tmp_path: Path) -> None:
    (tmp_path / "core.py").write_text("MINE = 7\n")
    done = run(tmp_path / "script.py", "from gradfleet import Client\nfrom core import MINE\nprint(MINE)")
    assert done.stdout == "7\n", done.stderr
