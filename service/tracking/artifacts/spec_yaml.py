"""A spec as YAML that means the same in versions 1.1 and 1.2."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Dumper(yaml.SafeDumper):
    """Quotes text that is a number in YAML 1.2 too; PyYAML quotes what is one in YAML 1.1."""


# Text that matches is not of the type that it would have without quotes, so it gets them.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|0o[0-7]+$"),
    list("-+.0123456789"),
)


def spec_yaml(spec: Mapping[str, Any]) -> bytes:
    """Return a spec as YAML."""
    return yaml.dump(dict(spec), Dumper=_Dumper, sort_keys=False).encode()
