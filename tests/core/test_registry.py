import json
import re
import subprocess
import sys
from typing import ClassVar, Literal

import pytest

from core import SGD, Cosine, He, Hinge, Linear, from_spec, hyperparameter, registered, to_spec
from core.schedules.base import Schedule


def test_nested_specs_and_defaults():
    spec = {"type": "sgd", "lr": 1, "schedule": {"type": "cosine"}}
    built = from_spec("optimizer", spec)
    assert built == SGD(lr=1.0, schedule=Cosine())
    assert to_spec(built) == {
        "type": "sgd",
        "lr": 1.0,
        "schedule": {"type": "cosine"},
        "momentum": 0.0,
        "nesterov": False,
    }
    assert isinstance(to_spec(built)["lr"], float), "a spec is hashed as text, so 1 and 1.0 must have the same form"
    assert from_spec("layer", {"type": "linear", "units": 3, "bias": {"type": "he"}}) == Linear(units=3, bias=He())


def test_types_are_sorted_by_name():
    assert list(registered("optimizer")) == ["adagrad", "adam", "adamw", "lion", "rmsprop", "sgd"]
    assert registered("loss")["hinge"] is Hinge
    with pytest.raises(ValueError, match=r"unknown kind 'lost'; the kinds are .*loss"):
        registered("lost")


@pytest.mark.parametrize("name", ["hing", None, ["hinge"]])
def test_unknown_type_raises_with_the_known_types(name):
    with pytest.raises(ValueError, match=r"loss type .* is unknown; the types are absolute_error, .*hinge, .*softmax"):
        from_spec("loss", {"type": name})


def test_errors_name_the_nested_field():
    with pytest.raises(ValueError, match=r"cosine\.steps is not a field of schedule 'cosine'"):
        from_spec("optimizer", {"type": "sgd", "schedule": {"type": "cosine", "steps": 1}})
    with pytest.raises(TypeError, match=r"sgd\.schedule must be of kind schedule, not 'cosine'"):
        from_spec("optimizer", {"type": "sgd", "schedule": "cosine"})
    with pytest.raises(TypeError, match=r"linear\.weight must be of kind initializer, not Cosine"):
        Linear(units=3, weight=Cosine())
    with pytest.raises(ValueError, match=r"hinge\.margin must be greater than 0, not -1"):
        Hinge(margin=-1)


def test_declaring_a_class_registers_it(monkeypatch):
    monkeypatch.setattr("core.registry._registry", {"schedule": dict(registered("schedule"))})

    class Halving(Schedule):
        """Halves every `every` steps."""

        type: ClassVar[str] = "halving"
        every: int = hyperparameter(default=10, doc="Steps.", ge=1)

        def factor(self, step, total_steps):
            return 0.5 ** (step // self.every)

    assert from_spec("schedule", {"type": "halving", "every": 5}) == Halving(every=5)
    with pytest.raises(ValueError, match=r"halving\.every must be at least 1, not 0"):
        Halving(every=0)
    with pytest.raises(AttributeError):
        Halving().every = 3
    with pytest.raises(TypeError, match="schedule 'halving' is declared twice"):
        type("Other", (Schedule,), {"type": "halving"})


def test_core_imports_only_numpy():
    program = (
        "import sys, numpy.random; before = set(sys.modules); import core;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - {'numpy'} - set(sys.stdlib_module_names)))"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['core']"


class Recipe(Schedule):
    """One field of each type: lists, a choice and an optional number."""

    numbers: tuple[float, ...] = hyperparameter(default=(), doc="Numbers.", ge=0)
    sizes: tuple[int, ...] = hyperparameter(default=(2,), doc="Whole numbers.")
    parts: tuple[Schedule, ...] = hyperparameter(default=(), doc="Schedules.")
    last: int | None = hyperparameter(default=None, doc="Whole number or None.", ge=1)
    form: Literal["long", "short"] = hyperparameter(default="long", doc="A choice.")


@pytest.fixture
def recipe(monkeypatch):
    """Return a class with fields of every type, registered for one test."""
    monkeypatch.setattr("core.registry._registry", {"schedule": dict(registered("schedule"))})
    return type("Registered", (Recipe,), {"type": "recipe", "__doc__": "Whatever."})


def test_json_round_trip_of_lists_and_choices(recipe):
    spec = {
        "type": "recipe",
        "numbers": [1, 0.5],
        "sizes": [],
        "parts": [{"type": "cosine"}],
        "last": 3,
        "form": "short",
    }
    built = from_spec("schedule", json.loads(json.dumps(spec)))
    assert built == recipe(numbers=(1.0, 0.5), sizes=(), parts=(Cosine(),), last=3, form="short")
    assert isinstance(built.numbers[0], float)
    assert json.dumps(to_spec(built)) == json.dumps(spec | {"numbers": [1.0, 0.5]})
    assert from_spec("schedule", to_spec(recipe())) == recipe()
    assert hash(built) == hash(recipe(numbers=[1, 0.5], sizes=[], parts=[Cosine()], last=3, form="short"))


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("numbers", 1.0, TypeError, "recipe.numbers must be a list, not 1.0"),
        ("numbers", "12", TypeError, "recipe.numbers must be a list, not '12'"),
        ("numbers", [1, "2"], TypeError, "recipe.numbers[1] must be float, not '2'"),
        ("numbers", [True], TypeError, "recipe.numbers[0] must be float, not True"),
        ("numbers", [1, float("nan")], ValueError, "recipe.numbers[1] must be finite, not nan"),
        ("numbers", [1, -2], ValueError, "recipe.numbers must be at least 0, not -2.0"),
        ("sizes", [1, 2.5], TypeError, "recipe.sizes[1] must be int, not 2.5"),
        ("sizes", [None], TypeError, "recipe.sizes[0] must be int, not None"),
        ("parts", [{"type": "cosine", "steps": 1}], ValueError, "cosine.steps is not a field of schedule 'cosine'"),
        ("parts", ["cosine"], TypeError, "recipe.parts[0] must be of kind schedule, not 'cosine'"),
        ("parts", {"type": "cosine"}, TypeError, "recipe.parts must be a list"),
        ("last", 0, ValueError, "recipe.last must be at least 1, not 0"),
        ("last", "1", TypeError, "recipe.last must be int, not '1'"),
        ("form", "tall", ValueError, "recipe.form must be one of long, short, not 'tall'"),
        ("form", 1, TypeError, "recipe.form must be one of long, short, not 1"),
    ],
)
@pytest.mark.usefixtures("recipe")
def test_lists_and_choices_are_checked(field, value, error, message):
    with pytest.raises(error, match=re.escape(message)):
        from_spec("schedule", {"type": "recipe", field: value})


def test_the_nearest_known_name_is_suggested():
    with pytest.raises(ValueError, match=r"loss type 'hing' is unknown; .*; did you mean 'hinge'\?"):
        from_spec("loss", {"type": "hing"})
    with pytest.raises(ValueError, match=r"sgd\.momentun is not a field .*; did you mean 'momentum'\?"):
        from_spec("optimizer", {"type": "sgd", "momentun": 0.9})
    with pytest.raises(ValueError, match=r"loss type 'quite another' is unknown; .*squared_error, weighted_sum$"):
        from_spec("loss", {"type": "quite another"})
