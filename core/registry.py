"""Registry of the classes that a job spec can name: layers, losses, optimizers, schedules, initializers and so on."""

from __future__ import annotations

import dataclasses
import importlib
import math
import operator
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, dataclass_transform, get_args, get_origin, get_type_hints

from core.names import suggest

_BOUNDS = {
    "ge": ("at least", operator.ge),
    "gt": ("greater than", operator.gt),
    "le": ("at most", operator.le),
    "lt": ("less than", operator.lt),
}
# Largest absolute value of a float whose field has no bound. The norm of a gradient overflows at 1.8e19 in float32, and
# most of these numbers are factors of the gradient.
LARGEST = 1e12
# Largest absolute value of such an integer: larger ones overflow in products, as a stride times the size of a line.
LARGEST_INTEGER = 1_000_000_000
_registry: dict[str, dict[str, type[Registered]]] = {}


def hyperparameter(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    """Declare a field of a `Registered` class, with its description and the bounds that are checked on construction.

    A number without a bound on a side is bounded by `LARGEST` or `LARGEST_INTEGER` there.
    """
    metadata = {"doc": doc, "ge": ge, "gt": gt, "le": le, "lt": lt}
    return dataclasses.field(default=default, metadata=metadata)


class Nested:
    """Base class of what a field of a `Registered` class can hold besides: it has a JSON object of its own."""

    #: what it is, for messages
    words: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build the object that a JSON form describes; raises what `from_spec` raises."""
        raise NotImplementedError


@dataclass_transform(frozen_default=True, field_specifiers=(hyperparameter,))
class Registered:
    """Base class of everything that a job spec can name.

    A direct subclass that sets `kind` defines a kind; a class below it that sets `type` is registered under that name.
    Each becomes a frozen dataclass of its annotated fields. A field is an int, float, bool, str, a `Literal` of
    strings, the base class of a kind or a `Nested` class; a tuple of any number of these, which is a list in JSON; a
    union of a number, a list of numbers and a `Literal`; or one of these or None.
    """

    kind: ClassVar[str]
    type: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    annotations: ClassVar[Mapping[str, Any]]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        dataclasses.dataclass(frozen=True)(cls)
        cls.annotations = get_type_hints(cls)
        for field in dataclasses.fields(cls):
            number = number_type(cls.annotations[field.name])
            if number is not None:
                field.metadata = MappingProxyType(
                    _bounded(field.metadata, LARGEST if number is float else LARGEST_INTEGER)
                )
        if "kind" in vars(cls):
            _registry.setdefault(cls.kind, {})
        if "type" in vars(cls):
            present = _registry[cls.kind].setdefault(cls.type, cls)
            if present is not cls:
                raise TypeError(f"{cls.kind} {cls.type!r} is declared twice: by {present!r} and by {cls!r}")

    def __post_init__(self) -> None:
        """Check types and bounds; an integer for a float becomes a float, so that equal specs are equal as text."""
        for field in dataclasses.fields(self):
            value = _checked(f"{self.type}.{field.name}", getattr(self, field.name), self.annotations[field.name])
            object.__setattr__(self, field.name, value)
            for each in value if isinstance(value, tuple) else () if value is None else (value,):
                for name, (words, holds) in _BOUNDS.items():
                    bound = field.metadata.get(name)
                    if bound is not None and not isinstance(each, str) and not holds(each, bound):
                        raise ValueError(f"{self.type}.{field.name} must be {words} {bound}, not {each!r}")

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, checked like a new one."""
        return dataclasses.replace(self, **changes)


def _bounded(metadata: Mapping[str, Any], largest: float) -> dict[str, Any]:
    """The metadata of a number with an upper and a lower bound."""
    low, high = ("ge", "gt"), ("le", "lt")
    bounds = dict(metadata)
    if all(metadata[name] is None for name in low):
        bounds["ge"] = -largest
    if all(metadata[name] is None for name in high):
        bounds["le"] = largest
    return bounds


def item_type(annotation: Any) -> Any:
    """Return X for a field of type `tuple[X, ...]`, and None for any other."""
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None


def number_type(annotation: Any) -> Any:
    """Return float or int for a field of such a number, of a list of them, or of either, and None for any other."""
    for each in alternatives(annotation) or (annotation,):
        number = item_type(each) or each
        if number in {float, int}:
            return number
    return None


def alternatives(annotation: Any) -> tuple[Any, ...] | None:
    """Return the types of a union, without None, and None for any other type."""
    if get_origin(annotation) not in {UnionType, Union}:
        return None
    return tuple(each for each in get_args(annotation) if each is not NoneType)


def _checked(where: str, value: Any, annotation: Any) -> Any:
    if (item := item_type(annotation)) is not None:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{where} must be a list, not {value!r}")
        return tuple(_checked(f"{where}[{index}]", each, item) for index, each in enumerate(value))
    if (choices := alternatives(annotation)) is not None:
        if value is None and NoneType in get_args(annotation):
            return None
        # Of a union's number, list and words, the form of the value says which one is meant.
        form = tuple if isinstance(value, (list, tuple)) else Literal if isinstance(value, str) else None
        return _checked(where, value, next((each for each in choices if get_origin(each) is form), choices[0]))
    if get_origin(annotation) is Literal:
        if not isinstance(value, str) or value not in get_args(annotation):
            error = ValueError if isinstance(value, str) else TypeError
            raise error(f"{where} must be one of {_listed(get_args(annotation))}, not {value!r}")
        return value
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1000 else math.inf
    if not isinstance(value, annotation) or (isinstance(value, bool) and annotation is not bool):
        expected = annotation.__name__
        if issubclass(annotation, Registered):
            expected = f"of kind {annotation.kind}"
        elif issubclass(annotation, Nested):
            expected = annotation.words
        raise TypeError(f"{where} must be {expected}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, not {value!r}")
    return value


def registered(kind: str) -> Mapping[str, type[Registered]]:
    """Return the classes of a kind by type name, in order of name. Raises ValueError for an unknown kind."""
    if kind not in _registry:
        raise ValueError(f"unknown kind {kind!r}; the kinds are {_listed(_registry)}")
    return MappingProxyType(dict(sorted(_registry[kind].items())))


def classes() -> Iterator[type[Registered]]:
    """Yield every registered class, kind by kind."""
    for kind in sorted(_registry):
        yield from registered(kind).values()


def to_spec(thing: Registered) -> dict[str, Any]:
    """Return the JSON form, `{"type": ..., field: value, ...}`, with every field."""
    spec: dict[str, Any] = {"type": thing.type}
    for field in dataclasses.fields(thing):
        spec[field.name] = to_json(getattr(thing, field.name))
    return spec


def to_json(value: Any) -> Any:
    """Return the JSON form of a field's value."""
    if isinstance(value, tuple):
        return [to_json(each) for each in value]
    if isinstance(value, Nested):
        return value.to_json()
    return to_spec(value) if isinstance(value, Registered) else value


def from_spec(kind: str, spec: Mapping[str, Any]) -> Registered:
    """Build the object that a spec describes; the inverse of `to_spec`.

    Raises ValueError for an unknown type, an unknown or missing field or a value out of bounds, and TypeError for a
    value of the wrong type. The message names the field and what is allowed.
    """
    classes = registered(kind)
    name = spec.get("type")
    if not isinstance(name, str) or name not in classes:
        raise ValueError(f"{kind} type {name!r} is unknown; the types are {_listed(classes)}{suggest(name, classes)}")
    cls = classes[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values = {key: value for key, value in spec.items() if key != "type"}
    for key, value in values.items():
        if key not in fields:
            near = suggest(key, fields)
            raise ValueError(f"{name}.{key} is not a field of {kind} {name!r}; its fields are {_listed(fields)}{near}")
        values[key] = _from_json(value, cls.annotations[key])
    missing = [key for key, field in fields.items() if field.default is dataclasses.MISSING and key not in values]
    if missing:
        raise ValueError(f"{kind} {name!r} needs {_listed(f'{name}.{key}' for key in missing)}")
    return cls(**values)


def _from_json(value: Any, annotation: Any) -> Any:
    """Build the registered objects within a field's value; the class checks the rest."""
    if (item := item_type(annotation)) is not None and isinstance(value, (list, tuple)):
        return tuple(_from_json(each, item) for each in value)
    if isinstance(value, Mapping):
        for each in alternatives(annotation) or (annotation,):
            if isinstance(each, type) and issubclass(each, Registered):
                return from_spec(each.kind, value)
            if isinstance(each, type) and issubclass(each, Nested):
                return each.from_json(value)
    return value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "(none)"


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, at any depth, in order of name, so that their classes are registered."""
    for module in sorted(pkgutil.walk_packages(path, f"{package}."), key=lambda module: module.name):
        importlib.import_module(module.name)
