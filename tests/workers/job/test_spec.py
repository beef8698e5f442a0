from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from core import (
    L1,
    L2,
    SGD,
    Cosine,
    ElasticNet,
    Entry,
    Hinge,
    Linear,
    NormClipping,
    Penalty,
    Registered,
    ReLU,
    SoftmaxCrossEntropy,
    from_spec,
    registered,
    to_spec,
)
from core.registry import alternatives, item_type
from tests.workers.fixtures.helpers import JOB, KINDS, REGISTERED, instances, job
from workers.job.fields import simple_types, spec_model, spec_union
from workers.job.spec import JobSpec

JSON_SCHEMA_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}

each_registered = pytest.mark.parametrize(("kind", "name"), REGISTERED)

# Every (kind, type, field) and its annotation.
FIELDS = [
    (kind, name, each.name, registered(kind)[name].annotations[each.name])
    for kind, name in REGISTERED
    for each in dataclasses.fields(registered(kind)[name])
]

WRONG_VALUES: dict[Any, list[Any]] = {
    int: ["10", True, 1.5, None, [1], float("nan")],
    float: ["0.1", True, None, [0.1], float("nan"), float("inf"), float("-inf")],
    bool: ["true", 1, None],
    str: [1, True, None],
}
WRONG_PARTS = ["he", 3, None, {}, {"type": "nothing of this name"}, {"type": 3}]


def wrong_values(annotation: Any) -> list[Any]:
    if (item := item_type(annotation)) is not None:
        return ["10", 1, None, {}, *([wrong] for wrong in wrong_values(item))]
    if (choices := alternatives(annotation)) is not None:
        right = [None] * (types.NoneType in typing.get_args(annotation)) + [[1]] * any(map(item_type, choices))
        return [wrong for wrong in wrong_values(choices[0]) if wrong not in right]
    if typing.get_origin(annotation) is typing.Literal:
        return ["nothing of this name", 1, True, None]
    return WRONG_PARTS if issubclass(annotation, Registered | Entry) else WRONG_VALUES[annotation]


def right_value(annotation: Any) -> Any:
    if (item := item_type(annotation)) is not None:
        return (right_value(item),)
    if (choices := alternatives(annotation)) is not None:
        return right_value(choices[0])
    if annotation is Entry:
        return Entry(ReLU())
    if issubclass(annotation, Registered):
        return from_spec(annotation.kind, example(annotation.kind, simple_types(annotation.kind)[0]))
    return 1


# Fields that have a default, but one of which or of another must be given: a length in steps or in epochs.
CHOSEN = {"step": {"every": 1}, "multistep": {"at": [1]}, "warmup": {"steps": 1}}


def example(kind: str, name: str) -> dict[str, Any]:
    """A spec with the default values, and 1 for each field without a default."""
    cls = registered(kind)[name]
    needed = [each.name for each in dataclasses.fields(cls) if each.default is dataclasses.MISSING]
    return to_spec(cls(**{name: right_value(cls.annotations[name]) for name in needed}, **CHOSEN.get(name, {})))


def number_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of the numbers in a field. If the field is a list, that is the schema of its items."""
    for inner in (schema.get("items"), schema.get("anyOf", [None])[0]):
        if inner is not None:
            return number_schema(inner)
    return schema


def locations(error: ValidationError) -> list[str]:
    return [".".join(map(str, each["loc"])) for each in error.errors()]


@each_registered
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_spec_and_its_model_agree(kind: str, name: str, data: st.DataObject) -> None:
    thing = data.draw(instances(registered(kind)[name]))
    model = spec_model(kind, name)
    spec = to_spec(thing)
    validated = model.model_validate(spec)
    assert validated.model_dump() == spec
    assert from_spec(kind, validated.model_dump()) == thing
    assert model.model_validate_json(json.dumps(spec)) == validated
    adapter = TypeAdapter(spec_union(kind))
    assert adapter.validate_python(spec) == thing
    assert adapter.dump_python(thing) == spec
    assert json.loads(adapter.dump_json(thing)) == spec


@each_registered
def test_defaults_are_those_of_the_class(kind: str, name: str) -> None:
    full = example(kind, name)
    needed = {each.name for each in dataclasses.fields(registered(kind)[name]) if each.default is dataclasses.MISSING}
    short = {key: value for key, value in full.items() if key in {"type", *needed, *CHOSEN.get(name, {})}}
    assert spec_model(kind, name).model_validate(short).model_dump() == full
    for missing in needed:
        with pytest.raises(ValidationError) as caught:
            spec_model(kind, name).model_validate({key: short[key] for key in short if key != missing})
        assert locations(caught.value) == [missing]


@each_registered
def test_the_json_schema_has_the_bounds_and_the_docstring_of_the_class(kind: str, name: str) -> None:
    cls = registered(kind)[name]
    schema = spec_model(kind, name).model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["type"]["const"] == name
    assert schema["description"].split() == (cls.__doc__ or "").split()
    for each in dataclasses.fields(cls):
        properties = schema["properties"][each.name]
        assert properties["description"] == each.metadata["doc"]
        for bound, keyword in JSON_SCHEMA_BOUNDS.items():
            assert number_schema(properties).get(keyword) == each.metadata[bound], (each.name, bound)


@each_registered
def test_values_out_of_bounds_are_refused_by_the_model_and_by_the_class(kind: str, name: str) -> None:
    cls = registered(kind)[name]
    for each in dataclasses.fields(cls):
        outside = {"ge": -1, "gt": 0, "le": 1, "lt": 0}
        for bound, offset in outside.items():
            if each.metadata[bound] is not None:
                is_list = item_type(cls.annotations[each.name]) is not None
                outside_it = each.metadata[bound] + offset * max(1, abs(each.metadata[bound]))
                wrong = example(kind, name) | {each.name: [outside_it] if is_list else outside_it}
                with pytest.raises(ValidationError) as caught:
                    spec_model(kind, name).model_validate(wrong)
                first, *others = locations(caught.value)
                if alternatives(cls.annotations[each.name]) is None:
                    assert (first, others) == (f"{each.name}.0" if is_list else each.name, [])
                # Of a union, each alternative has an error.
                assert {location.split(".")[0] for location in (first, *others)} == {each.name}
                with pytest.raises(ValueError, match=each.name):
                    from_spec(kind, wrong)


@pytest.mark.parametrize(("kind", "name", "field", "annotation"), FIELDS)
def test_values_of_the_wrong_type_are_refused(kind: str, name: str, field: str, annotation: Any) -> None:
    for wrong in wrong_values(annotation):
        with pytest.raises(ValidationError) as caught:
            spec_model(kind, name).model_validate(example(kind, name) | {field: wrong})
        assert all(location.split(".")[0] == field for location in locations(caught.value)), wrong
    if annotation in {int, float}:
        # JSON has no infinity, but large numbers become infinite, and Python's parser accepts `NaN`.
        for text in ("NaN", "1e400", "-Infinity", '"1"', "true"):
            spec = json.dumps(example(kind, name) | {field: 0}).replace(f'"{field}": 0', f'"{field}": {text}')
            assert text in spec
            with pytest.raises(ValidationError):
                spec_model(kind, name).model_validate_json(spec)


@each_registered
def test_unknown_fields_and_types_are_refused(kind: str, name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec_model(kind, name).model_validate(example(kind, name) | {"learning_rat": 1})
    assert locations(caught.value) == ["learning_rat"]
    with pytest.raises(ValidationError):
        spec_model(kind, name).model_validate(example(kind, name) | {"type": "other"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [{}, {"type": "nothing of this name"}, {"type": None}, "sgd", None, 3])
def test_a_kind_accepts_only_its_types(kind: str, wrong: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(spec_union(kind)).validate_python(wrong)


def test_fields_hold_registered_objects() -> None:
    changes = {"loss": {"type": "hinge", "margin": 2.0}, "training.clipping": {"type": "norm", "limit": 1.0}}
    spec = JobSpec.model_validate(job(**changes))
    assert spec.loss == Hinge(margin=2.0)
    assert spec.optimizer == SGD(lr=0.05, momentum=0.9, schedule=Cosine())
    assert spec.training.clipping == NormClipping(limit=1.0)
    assert spec.model.layers == [Entry(Linear(units=32)), Entry(ReLU()), Entry(Linear(units=3))]
    assert spec.regularization.penalty == L2(0.001)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"type": "sgd", "schedule": {"type": "step"}}, "step needs step.every or step.every_epochs"),
        ({"type": "sgd", "schedule": {"type": "multistep"}}, "multistep needs multistep.at or multistep.at_epochs"),
        (
            {"type": "sgd", "schedule": {"type": "multistep", "at": [5, 5]}},
            "multistep.at[1] must be greater than 5, the one before it, not 5",
        ),
        ({"type": "sgd", "nesterov": True}, "sgd.nesterov needs sgd.momentum greater than 0"),
    ],
)
def test_fields_of_an_optimizer_that_do_not_fit_together_are_refused(optimizer: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(job(optimizer=optimizer))
    assert words in str(caught.value)


def test_an_error_of_the_class_is_located_at_its_spec() -> None:
    losses = {"type": "weighted_sum", "losses": [{"type": "hinge"}], "weights": [1.0, 2.0]}
    with pytest.raises(ValidationError, match="weights") as caught:
        JobSpec.model_validate(job(loss=losses))
    assert locations(caught.value) == ["loss.weighted_sum"]


@pytest.mark.parametrize(
    ("l1", "l2", "penalty"), [(0, 0, None), (2, 0, L1(2)), (0, 3, L2(3)), (2, 3, ElasticNet(2, 3))]
)
def test_the_penalty_of_a_job(l1: float, l2: float, penalty: Penalty | None) -> None:
    spec = JobSpec.model_validate(job(regularization={"l1": l1, "l2": l2}))
    assert spec.regularization.penalty == penalty


def test_defaults_of_a_job() -> None:
    spec = JobSpec.model_validate(
        {
            "name": "n",
            "data": {"dataset": "d"},
            "model": {"layers": [{"type": "linear", "units": 10}]},
            "loss": {"type": "softmax"},
            "optimizer": {"type": "sgd"},
            "training": {"epochs": 1},
        }
    )
    assert spec.model_dump(mode="json") == {
        "name": "n",
        "experiment": "default",
        "data": {
            "dataset": "d",
            "validation": 0.2,
            "standardize": True,
            "scale": None,
            "stratify": False,
            "shuffle": {"type": "full"},
            "augmentation": [],
        },
        "model": {
            "inputs": None,
            "layers": [to_spec(Linear(units=10))],
        },
        "loss": to_spec(SoftmaxCrossEntropy()),
        "regularization": {"l1": 0.0, "l2": 0.0},
        "optimizer": to_spec(SGD()),
        "training": {
            "epochs": 1,
            "batch_size": 128,
            "seed": 0,
            "shards": None,
            "arithmetic": None,
            "clipping": None,
            "early_stopping": None,
        },
        "resources": {"workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0},
        "checkpoints": {
            "every_seconds": None,
            "every_steps": None,
            "every_epochs": None,
            "keep": 2,
            "best": "val/loss",
        },
        "max_restarts": 3,
    }


@pytest.mark.parametrize("name", registered("loss"))
def test_a_job_may_have_any_loss(name: str) -> None:
    assert JobSpec.model_validate(job(loss=example("loss", name))).model_dump()["loss"]["type"] == name


specs = st.fixed_dictionaries(
    {
        "name": st.text("abc äß-", min_size=1, max_size=200).filter(lambda text: text == text.strip()),
        "data": st.fixed_dictionaries(
            {"dataset": st.just("d"), "validation": st.floats(0, 1, exclude_max=True), "standardize": st.booleans()}
        ),
        "model": st.fixed_dictionaries(
            {
                "layers": st.lists(
                    st.sampled_from(list(registered("layer").values())).flatmap(instances).map(to_spec),
                    min_size=1,
                    max_size=5,
                )
            }
        ),
        "loss": st.sampled_from(list(registered("loss").values())).flatmap(instances).map(to_spec),
        "optimizer": st.sampled_from(list(registered("optimizer").values())).flatmap(instances).map(to_spec),
        "regularization": st.fixed_dictionaries({"l2": st.floats(0, 1e12)}),
        "training": st.fixed_dictionaries(
            {
                "epochs": st.integers(1, 1_000_000),
                "seed": st.integers(0, 2**63 - 1),
                "shards": st.none() | st.integers(1, 4096),
            }
        ),
    }
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(specs)
def test_a_job_round_trips_through_json(spec: dict[str, Any]) -> None:
    validated = JobSpec.model_validate(spec)
    again = JobSpec.model_validate_json(validated.model_dump_json())
    assert again == validated
    assert again.model_dump_json() == validated.model_dump_json()
    # Workers receive the JSON form as Python values.
    assert JobSpec.model_validate(json.loads(validated.model_dump_json())) == validated


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("name", ""),
        ("name", " job"),
        ("name", "job\n"),
        ("name", "a\x1b[31mb"),
        ("name", "x" * 201),
        ("name", 3),
        ("experiment", ""),
        ("data.dataset", None),
        ("data.validation", 1.0),
        ("data.validation", -0.1),
        ("data.validation", "0.2"),
        ("data.standardize", 1),
        ("data.rows", 5),
        ("model.inputs", 0),
        ("model.layers", []),
        ("model.layers", [{"type": "relu"}] * 1025),
        ("loss.margins", 1.0),
        ("regularization.l2", -1e-9),
        ("regularization.l2", float("nan")),
        ("regularization.l3", 1.0),
        ("training.epochs", 0),
        ("training.epochs", True),
        ("training.epochs", 2.0),
        ("training.batch_size", 0),
        ("training.batch_size", "128"),
        ("training.seed", -1),
        ("training.seed", 2**63),
        ("training.shards", 0),
        ("training.shards", 4097),
        ("resources.workers", 0),
        ("resources.cpus_per_worker", 0.5),
        ("resources.gpus_per_worker", 2),
        ("callback", "os.system"),
    ],
)
def test_an_invalid_job_names_its_field(field: str, wrong: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(job(**{field: wrong}))
    # Within a union the location also has the type that was chosen: loss.hinge.margins.
    expected = field.split(".")
    for location in locations(caught.value):
        parts = location.split(".")
        assert parts[0] == expected[0]
        assert expected[-1] in parts[-2:]  # a number or a list: model.inputs.list


def test_the_example_of_these_tests_is_valid() -> None:
    assert JobSpec.model_validate(JOB).model_dump()["loss"] == to_spec(Hinge())


def test_a_split_by_a_column_replaces_the_share() -> None:
    spec = JobSpec.model_validate(job(data={"dataset": "d", "split": {"train": ["a"], "validation": ["b"]}}))
    assert spec.data.validation == 0
    assert JobSpec.model_validate(spec.model_dump()) == spec
    # A spec without a split has no such field, so that the digests of existing checkpoints do not change.
    assert "split" not in JobSpec.model_validate(job()).model_dump()["data"]


def test_given_numbers_replace_standardization() -> None:
    spec = JobSpec.model_validate(job(**{"data.scale": {"divide": 255}}))
    assert not spec.data.standardize
    assert JobSpec.model_validate(spec.model_dump()) == spec
    with pytest.raises(ValidationError, match="only one of them"):
        JobSpec.model_validate(job(**{"data.scale": {"divide": 255}, "data.standardize": True}))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("scale", {"divide": 0}),
        ("scale", {"divide": []}),
        ("scale", {"subtract": [1.0, "2"]}),
        ("shuffle", {"type": "window"}),
        ("shuffle", {"type": "full", "block": 7}),
        ("shuffle", {"type": "chunks", "window": 0}),
    ],
)
def test_an_invalid_scale_or_shuffle_names_its_field(field: str, wrong: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(job(**{f"data.{field}": wrong}))
    assert all(location.startswith(f"data.{field}") for location in locations(caught.value))


def test_a_spec_accepts_the_objects_that_it_holds() -> None:
    spec = JobSpec.model_validate(job())
    changed = spec.model_dump() | {"loss": spec.loss, "optimizer": spec.optimizer}
    changed["model"] = {"layers": spec.model.layers}
    assert JobSpec.model_validate(changed) == spec
