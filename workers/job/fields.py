"""Pydantic models made from the engine's registered classes: their fields are the schema, and nothing is said twice."""

from __future__ import annotations

import dataclasses
import operator
import types
import typing
from functools import cache, reduce
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from core import Registered, from_spec, registered, to_spec
from core.registry import item_type

BOUNDS = ("ge", "gt", "le", "lt")


class StrictModel(BaseModel):
    """A part of a spec: unknown fields are refused, "10" is no integer, and a number is finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _check_text(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable text without spaces at its ends")
    return value


AllowedText = AfterValidator(_check_text)
NodeName = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]


@cache
def spec_model(kind: str, name: str) -> type[StrictModel]:
    """Pydantic model of one registered class: its `type`, its fields with their bounds, its docstring."""
    cls = registered(kind)[name]
    fields: dict[str, Any] = {"type": (Literal[cls.type], ...)}
    for field in dataclasses.fields(cls):
        bounds = {bound: field.metadata[bound] for bound in BOUNDS if field.metadata.get(bound) is not None}
        default = ... if field.default is dataclasses.MISSING else _in_spec(field.default)
        annotation = _type_in_spec(cls.annotations[field.name], bounds, kind)
        fields[field.name] = (annotation, Field(default, description=field.metadata["doc"]))

    def check_whole(spec: StrictModel) -> StrictModel:
        """Let the class itself look at what no single field shows, such as a lower bound above the upper one."""
        from_spec(kind, spec.model_dump(include=set(fields)))
        return spec

    validators: Any = {"check_whole": model_validator(mode="after")(check_whole)}
    return create_model(
        f"{cls.__name__}Spec", __base__=StrictModel, __doc__=cls.__doc__, __validators__=validators, **fields
    )


def _type_in_spec(annotation: Any, bounds: dict[str, Any], inside: str) -> Any:
    """Type of a field in a spec for its type in a registered class of the kind `inside`; numbers have the bounds."""
    if (item := item_type(annotation)) is not None:
        return list[_type_in_spec(item, bounds, inside)]  # type: ignore[misc]
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        present, _ = typing.get_args(annotation)
        return _type_in_spec(present, bounds, inside) | None
    if typing.get_origin(annotation) is Literal:
        return annotation
    if issubclass(annotation, Registered):
        # What is made of others of its kind, such as a sum of losses, is made of simple ones.
        return spec_union(annotation.kind, simple_types(inside) if annotation.kind == inside else None)
    return Annotated[annotation, Field(**bounds)]


def simple_types(kind: str) -> tuple[str, ...]:
    """Types of a kind that have no field of that kind themselves."""
    return tuple(
        name for name, cls in registered(kind).items() if kind not in map(_kind_within, cls.annotations.values())
    )


def _kind_within(annotation: Any) -> str | None:
    part = item_type(annotation) or annotation
    return part.kind if isinstance(part, type) and issubclass(part, Registered) else None


def _in_spec(default: Any) -> Any:
    if isinstance(default, tuple):
        return [_in_spec(each) for each in default]
    return spec_model(default.kind, default.type)(**to_spec(default)) if isinstance(default, Registered) else default


@cache
def spec_union(kind: str, names: tuple[str, ...] | None = None) -> Any:
    """One registered thing of a kind, or of those named, told apart by its `type`."""
    return _told_apart([spec_model(kind, name) for name in names or registered(kind)])


@cache
def layer_model(name: str) -> type[StrictModel]:
    """Pydantic model of an entry of a job's model: a registered layer, and where it stands among the others."""
    place: dict[str, Any] = {
        "name": (
            NodeName | None,
            _left_out("Name by which later layers read this one; by default its position and type, as in `0_linear`."),
        ),
        "inputs": (
            Annotated[list[NodeName], Field(min_length=1, max_length=64)] | None,
            _left_out("Names of the earlier layers that this one reads, or `features`; by default the one before it."),
        ),
        "share": (NodeName | None, _left_out("Name of the earlier layer whose parameters this one uses.")),
    }
    base, cls = spec_model("layer", name), registered("layer")[name]
    return create_model(f"{cls.__name__}Layer", __base__=base, __doc__=base.__doc__, **place)


def _left_out(description: str) -> Any:
    """A field that is in no document unless somebody has given it: a plain chain stays plain."""
    return Field(None, description=description, exclude_if=lambda value: value is None)


@cache
def layer_union() -> Any:
    """Anything that a job's model can name."""
    return _told_apart([layer_model(name) for name in registered("layer")])


def _told_apart(models: list[Any]) -> Any:
    return Annotated[reduce(operator.or_, models), Field(discriminator="type")]
