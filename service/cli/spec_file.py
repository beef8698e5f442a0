"""Files with specs of jobs and sweeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from service.cli.yaml_values import YamlError
from service.cli.yaml_values import parse as parse_yaml
from service.strict_json import StrictJsonError, faults
from service.strict_json import parse as parse_json

STANDARD_INPUT = "-"
LARGEST_FILE = 4 * 1024 * 1024  # bytes


class SpecFileError(ValueError):
    """A file does not contain a spec; `lines` say where and why."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read_spec(path: Path) -> dict[str, Any]:
    """Read the spec in a YAML or JSON file, or in standard input for the path `-`, by the rules of the API.

    A name that ends with .json means JSON, any other YAML 1.2, of which JSON is a part. Raises SpecFileError if there
    is no spec.
    """
    name = "standard input" if str(path) == STANDARD_INPUT else str(path)
    text = _decode(name, _read(name, path))
    try:
        spec = parse_json(text.encode()) if path.suffix.lower() == ".json" else parse_yaml(text)
        wrong = faults(spec)
    except StrictJsonError as error:
        raise SpecFileError(f"{name} {error}") from error
    except YamlError as error:
        raise SpecFileError(f"{name}, {error}") from error
    if wrong:
        raise SpecFileError(*(f"{name}: {'.'.join(map(str, place)) or 'the file'}: {fault}" for place, fault in wrong))
    if not isinstance(spec, dict):
        found = "a list" if isinstance(spec, list) else "nothing" if spec is None else "a single value"
        raise SpecFileError(f"{name} contains {found}, not an object with fields")
    return spec


def _read(name: str, path: Path) -> bytes:
    try:
        if str(path) == STANDARD_INPUT:
            content = sys.stdin.buffer.read(LARGEST_FILE + 1) if sys.stdin else b""
        else:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # a path with NUL raises ValueError
        raise SpecFileError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > LARGEST_FILE:
        raise SpecFileError(f"{name} is larger than {LARGEST_FILE // 2**20} MiB")
    return content


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecFileError(f"{name}, line {line}: the text is not UTF-8, at byte {error.start} of the file") from error
