"""YAML 1.2 with its core schema, restricted to what JSON can express.

PyYAML parses the syntax and reports events. The values are built here, because PyYAML's own follow YAML 1.1, in which
`010` is 8, `no` is false and a date is an object. No recursion is used, so deep nesting cannot exhaust the stack.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from yaml.reader import ReaderError

from service.strict_json import DEEPEST, TOO_DEEP, parse_int, quoted_key

if TYPE_CHECKING:
    from typing import TypeAlias

    from yaml import Event, Mark
    from yaml._yaml import Mark as CMark

    Place: TypeAlias = Mark | CMark | None

LARGEST_VALUE = 4 * 1024 * 1024  # characters and entries, with aliases replaced by what they refer to

# Values without quotes, by the core schema of YAML 1.2.2 (section 10.3.2): all other text is a string. What is not
# finite is read as such, and then refused.
CORE_SCHEMA = [
    (re.compile(pattern), value)
    for pattern, value in (
        (r"null|Null|NULL|~|", lambda _: None),
        (r"true|True|TRUE", lambda _: True),
        (r"false|False|FALSE", lambda _: False),
        (r"[-+]?[0-9]+", parse_int),
        (r"0o[0-7]{1,22}", lambda text: int(text, 0)),
        (r"0x[0-9a-fA-F]{1,16}", lambda text: int(text, 0)),
        (r"0o[0-7]+|0x[0-9a-fA-F]+", lambda _: math.inf),
        (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
        (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", lambda _: math.inf),
    )
]


class YamlError(ValueError):
    """A text is not YAML, or not plain data; the message says where and why."""

    def __init__(self, mark: Place, reason: str) -> None:
        super().__init__(reason if mark is None else _at(mark.line, mark.column, reason))


def _at(line: int, column: int, reason: str) -> str:
    return f"line {line + 1}, column {column + 1}: {reason}"


@dataclass
class _Open:
    """A list or object whose entries are being read; `size` counts characters and entries."""

    value: list[Any] | dict[str, Any]
    anchor: str | None
    size: int = 1
    key: str | None = None


@dataclass
class _Document:
    """The document that is being read."""

    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    root: Any = None
    found: bool = False


def parse(text: str) -> Any:
    """Parse a YAML text with one document; None if it is empty.

    Raises YamlError for invalid YAML and for what plain data does not have: duplicate keys, tags, merge keys, keys that
    are not text, several documents, nesting deeper than 32, and aliases that make the value too large.
    """
    document = _Document()
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            _read(document, event)
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(part for part in (error.problem, error.context) if part)
        raise YamlError(error.problem_mark or error.context_mark, reason) from None
    except ReaderError as error:
        before = text[: error.position]
        reason = f"the character {text[error.position]!a} is not allowed in YAML"
        raise YamlError(None, _at(before.count("\n"), len(before) - before.rfind("\n") - 1, reason)) from None
    return document.root


def _read(document: _Document, event: Event) -> None:
    match event:
        case yaml.DocumentStartEvent():
            if document.found:
                raise YamlError(event.start_mark, "a second document begins here; a file has one spec")
            if event.version not in {None, (1, 2)}:
                raise YamlError(event.start_mark, "the file declares another version of YAML than 1.2")
            document.found = True
        case yaml.ScalarEvent():
            _read_scalar(document, event)
        case yaml.AliasEvent():
            if event.anchor not in document.anchors:
                raise YamlError(event.start_mark, f"there is no complete value with the anchor {event.anchor!r} above")
            value, size = document.anchors[event.anchor]
            _add(document, value, size, None, event.start_mark)
        case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
            _check(document, event)
            if len(document.open) >= DEEPEST:
                raise YamlError(event.start_mark, f"it {TOO_DEEP}")
            if _expects_key(document):
                raise YamlError(event.start_mark, "a key must be text, not a list or an object")
            value = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            document.open.append(_Open(value, event.anchor))
        case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
            closed = document.open.pop()
            _add(document, closed.value, closed.size, closed.anchor, event.start_mark)


def _read_scalar(document: _Document, event: Any) -> None:
    _check(document, event)
    text, mark = event.value, event.start_mark
    if not _expects_key(document):
        value = _resolve(text) if event.style is None else text
        _add(document, value, len(text) + 1, event.anchor, mark)
        return
    if event.style is None and text == "<<":
        raise YamlError(mark, "merge keys (<<) are not part of YAML 1.2; write the fields out")
    place = document.open[-1]
    if text in place.value:
        raise YamlError(mark, f"the key {quoted_key(text)} occurs twice")
    place.key = text
    place.size += len(text)
    if event.anchor is not None:
        document.anchors[event.anchor] = text, len(text) + 1


def _check(document: _Document, event: Any) -> None:
    if event.tag is not None:
        raise YamlError(event.start_mark, f"tags such as {event.tag} are not allowed")
    if event.anchor is not None:
        # From here on, the anchor is that of this value, which is not complete yet.
        document.anchors.pop(event.anchor, None)


def _expects_key(document: _Document) -> bool:
    return bool(document.open) and isinstance(document.open[-1].value, dict) and document.open[-1].key is None


def _add(document: _Document, value: Any, size: int, anchor: str | None, mark: Place) -> None:
    """Add a complete value to the list or object that is open."""
    if anchor is not None:
        document.anchors[anchor] = value, size
    if not document.open:
        document.root = value
        return
    place = document.open[-1]
    place.size += size
    if place.size > LARGEST_VALUE:
        raise YamlError(mark, f"the aliases make the value larger than {LARGEST_VALUE:,} characters")
    if isinstance(place.value, list):
        place.value.append(value)
    elif place.key is None:
        raise YamlError(mark, "a key must be text, not an alias")
    else:
        place.value[place.key] = value
        place.key = None


def _resolve(text: str) -> Any:
    """The value of a scalar without quotes."""
    return next((value(text) for pattern, value in CORE_SCHEMA if pattern.fullmatch(text)), text)
