"""Files with specs of jobs and sweeps."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path


class SpecFileError(ValueError):
    """A file does not contain a spec; the message says where and why."""


class SpecLoader(yaml.SafeLoader):
    """YAML loader for plain data, in which 1e-4 is a number and 2024-01-01 a string, as in JSON."""


SpecLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
SpecLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_spec(path: Path) -> dict[str, Any]:
    """Read the spec in a YAML or JSON file. Raises SpecFileError if there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        spec = json.loads(text) if path.suffix == ".json" else yaml.load(text, SpecLoader)  # noqa: S506 - a subclass of SafeLoader
    except json.JSONDecodeError as error:
        raise SpecFileError(f"{path}, line {error.lineno}, column {error.colno}: {error.msg}") from error
    except yaml.YAMLError as error:
        raise SpecFileError(f"{path}: {error}") from error
    if not isinstance(spec, dict):
        raise SpecFileError(f"{path} does not contain a spec, a mapping with fields such as name, data and model")
    return spec
