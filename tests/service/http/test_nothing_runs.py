"""A job is data: no module of the project unpickles, evaluates or imports user input."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted(path for package in ("core", "workers", "service") for path in (ROOT / package).rglob("*.py"))

# Modules that create code or objects from bytes. Ray pickles only between its own processes; see docs/security.md.
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "runpy", "code", "codeop"}
NAMES = {"eval", "exec", "compile", "__import__"}
# Functions of modules, for example yaml.unsafe_load.
ATTRIBUTES = {
    "yaml": {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"},
    "np": {"load", "loadtxt", "genfromtxt"},
    "numpy": {"load", "loadtxt", "genfromtxt"},
    "torch": {"load"},
    "os": {"system", "popen"},
    "importlib": {"import_module", "reload"},
}
# The engine imports the modules of its own folders.
ALLOWED = {("core/registry.py", "importlib.import_module")}


def dangers(source: str) -> list[str]:
    """Every use in a module of something that could execute its input."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [each.name for each in names if each.name.partition(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                top = module.partition(".")[0]
                found += [module] if top in MODULES else []
                found += [f"{top}.{each.name}" for each in names if each.name in ATTRIBUTES.get(top, set())]
            case ast.Name(id=name) if name in NAMES:
                found.append(name)
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name in ATTRIBUTES.get(module, set()):
                found.append(f"{module}.{name}")
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=False)):
                pass
            case ast.keyword(arg="allow_pickle" | "shell" as name):
                found.append(f"{name}=")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_executes_its_input(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    assert [found for found in dangers(path.read_text()) if (name, found) not in ALLOWED] == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "import pickle as p", "from pickle import loads", "import cloudpickle.fast", "eval('1')",
     "run = exec", "yaml.load(text, Loader)", "from yaml import unsafe_load", "from yaml import load", "np.load(path)",
     "f(path, allow_pickle=True)", "f(path, allow_pickle=flag)", "subprocess.run(x, shell=True)", "os.system(x)",
     "importlib.import_module(name)", "from importlib import import_module", "compile(text, '', 'exec')"],
)  # fmt: skip
def test_dangerous_code_is_found(source: str) -> None:
    assert dangers(source)


@pytest.mark.parametrize("source", ["re.compile(text)", "json.loads(text)", "yaml.safe_load(text)", "model.load(path)"])
def test_harmless_code_is_not_found(source: str) -> None:
    assert dangers(source) == []


def test_all_packages_are_checked() -> None:
    assert len(FILES) > 150
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == {"core", "workers", "service"}
    exceptions = {(name, found) for name, _ in ALLOWED for found in dangers((ROOT / name).read_text())}
    assert exceptions >= ALLOWED, "an entry of ALLOWED is no longer needed"
