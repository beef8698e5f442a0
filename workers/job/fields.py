"""Field types of a job spec, made from the engine's registered classes.

Pydantic validates an entry such as `{"type": "sgd", "lr": 0.1}` with a model generated from the class; the field then
holds the registered object itself, here `SGD(lr=0.1)`, and is serialised to the same JSON.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)

from core import Entry, Head, Multipliers, Registered, registered, to_spec
from core.graph.multipliers import LARGEST_MULTIPLIER
from core.registry import LARGEST, Nested, alternatives, item_type, to_json
from workers.job.balanced import BALANCED, BalancedLoss, is_balanced

if TYPE_CHECKING:
    from core import Loss

LONGEST_QUOTE = 60
BOUNDS = ("ge", "gt", "le", "lt")
# Entries of a list of layers, and layers of a model with its blocks expanded: GoogLeNet has 190, ResNet-152 about 570.
MOST_LAYERS = 1024
DEEPEST_BLOCKS = 8


class StrictModel(BaseModel):
    """A part of a spec: unknown fields are refused, "10" is not an integer, and a number is finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class FieldValueError(ValueError):
    """An error that a check of a whole object finds in one of its fields."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


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
        default = ... if field.default is dataclasses.MISSING else to_json(field.default)
        annotation = _type_in_spec(cls.annotations[field.name], bounds, kind)
        if (kind, field.name) == ("loss", "class_weights"):
            annotation = Annotated[annotation, _or_balanced(bounds)]
        # A default is JSON too, so validating it builds what it describes.
        fields[field.name] = (annotation, Field(default, description=field.metadata["doc"], validate_default=True))
    return create_model(f"{cls.__name__}Spec", __base__=StrictModel, __module__=__name__, __doc__=cls.__doc__, **fields)


def _or_balanced(bounds: dict[str, Any]) -> WrapValidator:
    """Accept `"balanced"` too, instead of weights with these bounds."""

    def validate(value: Any, validate_weights: ValidatorFunctionWrapHandler) -> Any:
        if value == BALANCED:
            return value
        if not isinstance(value, list | tuple):
            shown = json.dumps(value, default=str)[:LONGEST_QUOTE]
            raise ValueError(f'must be a list of numbers, one for each class, or "{BALANCED}", not {shown}')  # noqa: TRY004 - Pydantic reports no TypeError
        return validate_weights(value)

    weights = list[Annotated[float, Field(**bounds)]]
    return WrapValidator(validate, json_schema_input_type=weights | Literal["balanced"])


def _type_in_spec(annotation: Any, bounds: dict[str, Any], inside: str) -> Any:
    """Type of a spec's field for the type of a field in a class of the kind `inside`; the bounds are those of numbers.

    A class made of others of its kind, such as a sum of losses, takes those that are not made of others themselves.
    """
    if annotation == tuple[Entry, ...]:
        # By name, because this type contains the models of blocks, which contain entries again.
        return Annotated[list[typing.ForwardRef("AnyEntry")], Field(max_length=MOST_LAYERS), FailFast()]  # type: ignore[misc]
    if (item := item_type(annotation)) is not None:
        return Annotated[list[_type_in_spec(item, bounds, inside)], FailFast()]  # type: ignore[misc]
    if (choices := alternatives(annotation)) is not None:
        empty = (None,) if types.NoneType in typing.get_args(annotation) else ()
        return Union[(*(_choice(each, bounds, inside) for each in choices), *empty)]
    if typing.get_origin(annotation) is Literal:
        return annotation
    if issubclass(annotation, Registered):
        return spec_union(annotation.kind, simple_types(inside) if annotation.kind == inside else None)
    return Annotated[annotation, Field(**bounds)]


def _choice(annotation: Any, bounds: dict[str, Any], inside: str) -> Any:
    """Type of a spec's field within a union, the types of which Python hashes, as it cannot hash `FailFast`."""
    item = item_type(annotation)
    return list[_type_in_spec(item, bounds, inside)] if item else _type_in_spec(annotation, bounds, inside)  # type: ignore[misc]


def simple_types(kind: str) -> tuple[str, ...]:
    """Types of a kind that have no field of that kind themselves."""
    return tuple(
        name for name, cls in registered(kind).items() if kind not in map(_kind_within, cls.annotations.values())
    )


def _kind_within(annotation: Any) -> str | None:
    part = item_type(annotation) or annotation
    return part.kind if isinstance(part, type) and issubclass(part, Registered) else None


@cache
def spec_union(kind: str, names: tuple[str, ...] | None = None) -> Any:
    """Type of a field that holds a registered object of a kind, or of the named types; its `type` selects the class.

    An error that the class itself raises, such as for a lower bound above the upper one, is reported for the field.
    """
    classes = registered(kind)
    return _union({spec_model(kind, name): partial(_build, classes[name]) for name in names or classes}, _to_spec)


def _build(cls: type[Registered], spec: StrictModel) -> Any:
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(cls)}
    return BalancedLoss(cast("type[Loss]", cls), fields) if is_balanced(fields) else cls(**fields)


def _to_spec(thing: Registered | BalancedLoss) -> dict[str, Any]:
    return thing.to_spec() if isinstance(thing, BalancedLoss) else to_spec(thing)


class MultipliersSpec(StrictModel):
    """Factors for one parameter of a layer: Caffe's `lr_mult` and `decay_mult`."""

    learning_rate: float = Field(
        1.0, ge=0, le=LARGEST_MULTIPLIER, description="Factor of the learning rate; 0 leaves the parameter as it is."
    )
    decay: float | None = Field(
        None,
        ge=0,
        le=LARGEST_MULTIPLIER,
        description="Factor of the penalties and of weight decay. Default: 1 for weights, 0 for biases and other "
        "parameters without a penalty.",
    )


class _Place(StrictModel):
    """Place of a layer or block among the others of a model."""

    name: NodeName | None = Field(
        None,
        description="Name by which later layers read this one; by default its position and type, as in `0_linear`.",
    )
    inputs: Annotated[list[NodeName], Field(min_length=1, max_length=64)] | None = Field(
        None,
        description="Names of the earlier layers that this one reads, or `features`; by default the one before it. In "
        "a block, `input` is what the block reads.",
    )
    multipliers: Annotated[dict[NodeName, MultipliersSpec], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="Factors of the learning rate and the decay, by name of the layer's parameter; of a block, for all "
        "of its layers that have such a parameter and no multipliers of their own for it.",
    )


class _LayerPlace(_Place):
    share: NodeName | None = Field(None, description="Name of the earlier layer whose parameters this one uses.")


def _entry_model(kind: str, name: str) -> type[StrictModel]:
    base, cls = spec_model(kind, name), registered(kind)[name]
    place = _LayerPlace if kind == "layer" else _Place
    return create_model(
        f"{cls.__name__}{kind.capitalize()}", __base__=(place, base), __module__=__name__, __doc__=base.__doc__
    )


def _build_entry(cls: type[Registered], form: Any) -> Entry:
    multipliers = form.multipliers and {
        parameter: Multipliers(given.learning_rate, given.decay) for parameter, given in form.multipliers.items()
    }
    inputs = form.inputs and tuple(form.inputs)
    return Entry(_build(cls, form), form.name, inputs, getattr(form, "share", None), multipliers)


def _union(models: Mapping[type[StrictModel], Callable[[Any], object]], dump: Callable[[Any], dict[str, Any]]) -> Any:
    """Type of a field that one of the models validates and its function builds; `dump` gives the JSON form."""
    choices = tuple(Annotated[model, AfterValidator(build)] for model, build in models.items())
    # Defaults are JSON already. A lambda has no return type, so the JSON schema of the output is that of the models.
    serializer = PlainSerializer(lambda thing: thing if isinstance(thing, dict) else dump(thing))
    given_object = BeforeValidator(
        lambda thing: dump(thing) if isinstance(thing, Registered | Nested | BalancedLoss) else thing
    )
    return Annotated[Union[choices], Field(discriminator="type"), serializer, given_object]  # noqa: UP007


#: type of a field that holds an `Entry` with any registered layer or block
AnyEntry: Any = _union(
    {
        _entry_model(kind, name): partial(_build_entry, cls)
        for kind in ("layer", "block")
        for name, cls in registered(kind).items()
    },
    Entry.to_json,
)


class HeadForm(StrictModel):
    """Auxiliary classifier: layers from a value inside the model to scores like its own, in training only."""

    reads: NodeName = Field(description="Name of the layer or block that it reads.")
    weight: float = Field(0.3, gt=0, le=LARGEST, description="Factor of its loss, which is added to the model's loss.")
    layers: Annotated[list[AnyEntry], Field(min_length=1, max_length=MOST_LAYERS), FailFast()] = Field(
        description="From that value, `input`, to the scores."
    )
    name: NodeName | None = Field(None, description="By default its position, as in `head_0`.")


#: type of a field that holds a `Head`
AnyHead: Any = Annotated[
    HeadForm,
    AfterValidator(lambda form: Head(form.reads, tuple(form.layers), form.weight, form.name)),
    PlainSerializer(lambda head: head.to_json()),
    BeforeValidator(lambda head: head.to_json() if isinstance(head, Head) else head),
]
