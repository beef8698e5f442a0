"""Pydantic models made from the engine's registered classes: their fields are the schema, and nothing is said twice."""

from __future__ import annotations

import dataclasses
import operator
import typing
from functools import cache, reduce
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from core import Registered, registered, to_spec

BOUNDS = ("ge", "gt", "le", "lt")


class StrictModel(BaseModel):
    """A part of a spec: unknown fields are refused, "10" is no integer, and a number is finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _check_text(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable text without spaces at its ends")
    return value


AllowedText = AfterValidator(_check_text)


@cache
def spec_model(kind: str, name: str) -> type[StrictModel]:
    """Pydantic model of one registered class: its `type`, its fields with their bounds, its docstring."""
    cls = registered(kind)[name]
    hints = typing.get_type_hints(cls)
    fields: dict[str, Any] = {"type": (Literal[cls.type], ...)}
    for field in dataclasses.fields(cls):
        default: Any = ...
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        annotation = hints[field.name]
        if isinstance(annotation, type) and issubclass(annotation, Registered):
            annotation = spec_union(annotation.kind)
            if isinstance(default, Registered):
                default = spec_model(default.kind, default.type)(**to_spec(default))
        bounds = {bound: field.metadata[bound] for bound in BOUNDS if field.metadata.get(bound) is not None}
        fields[field.name] = (annotation, Field(default, description=field.metadata["doc"], **bounds))
    return create_model(f"{cls.__name__}Spec", __base__=StrictModel, __doc__=cls.__doc__, **fields)


@cache
def spec_union(kind: str, names: tuple[str, ...] | None = None) -> Any:
    """One registered thing of a kind, or of those named, told apart by its `type`."""
    models: list[Any] = [spec_model(kind, name) for name in names or registered(kind)]
    return Annotated[reduce(operator.or_, models), Field(discriminator="type")]
