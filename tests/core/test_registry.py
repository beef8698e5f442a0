import subprocess
import sys
from typing import ClassVar

import pytest

from core import SGD, Cosine, He, Hinge, Linear, from_spec, hyperparameter, registered, to_spec
from core.schedules import Schedule


def test_nested_specs_and_defaults():
    spec = {"type": "sgd", "lr": 1, "schedule": {"type": "cosine"}}
    built = from_spec("optimizer", spec)
    assert built == SGD(lr=1.0, schedule=Cosine())
    assert to_spec(built) == {"type": "sgd", "lr": 1.0, "schedule": {"type": "cosine"}, "momentum": 0.0}
    assert isinstance(to_spec(built)["lr"], float), "a spec is hashed as text: 1 and 1.0 must be one"
    assert from_spec("layer", {"type": "linear", "units": 3, "bias": {"type": "he"}}) == Linear(units=3, bias=He())


def test_kinds_are_listed_in_order_of_name():
    assert list(registered("schedule")) == ["constant", "cosine"]
    assert registered("loss")["hinge"] is Hinge
    with pytest.raises(ValueError, match=r"unknown kind 'lost'; the kinds are .*loss"):
        registered("lost")


@pytest.mark.parametrize("name", ["hing", None, ["hinge"]])
def test_unknown_types_are_answered_with_the_known(name):
    with pytest.raises(ValueError, match=r"loss type .* is unknown; the types are absolute_error, hinge, softmax"):
        from_spec("loss", {"type": name})


def test_errors_name_the_field_within():
    with pytest.raises(ValueError, match=r"cosine\.steps is not a field of schedule 'cosine'"):
        from_spec("optimizer", {"type": "sgd", "schedule": {"type": "cosine", "steps": 1}})
    with pytest.raises(TypeError, match=r"sgd\.schedule must be of kind schedule, not 'cosine'"):
        from_spec("optimizer", {"type": "sgd", "schedule": "cosine"})
    with pytest.raises(TypeError, match=r"linear\.weight must be of kind initializer, not Cosine"):
        Linear(units=3, weight=Cosine())
    with pytest.raises(ValueError, match=r"hinge\.margin must be greater than 0, not -1"):
        Hinge(margin=-1)


def test_declaring_a_class_is_all_it_takes(monkeypatch):
    monkeypatch.setattr("core.registry._registry", {"schedule": dict(registered("schedule"))})

    class Halving(Schedule):
        """Halves every so many steps."""

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


def test_core_imports_numpy_and_nothing_else():
    program = (
        "import sys, numpy.random; before = set(sys.modules); import core;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - {'numpy'} - set(sys.stdlib_module_names)))"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['core']"
