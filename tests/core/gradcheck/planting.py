"""Planted faults: networks in which one forward or backward is subtly wrong.

A fault changes one method of one registered class, as a mistake in its file would. `network` puts it where a job would
have it. The same networks without the fault must pass.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from core import Concat, Entry, Linear, Reshape, Scale, Shift, Sigmoid, Slice, SoftmaxCrossEntropy

if TYPE_CHECKING:
    from collections.abc import Callable

    from core import Loss, Node, Penalty


@dataclass(frozen=True)
class Fault:
    """A network with one wrong node, loss or penalty, and the same network with the right one."""

    name: str
    right: Network
    wrong: Network


@dataclass(frozen=True)
class Network:
    layers: list[Node | Entry]
    loss: Loss
    features: int = 6
    penalty: Penalty | None = None


def remade(base: type, instance: Any) -> Any:
    """Return an instance of a subclass with the same fields."""
    return base(**{field.name: getattr(instance, field.name) for field in fields(instance)})


#: names of a method's arguments behind the first
ARGUMENTS = {
    "forward": ("inputs", "output", "work"),
    "backward": ("upstream", "inputs", "output", "work", "out"),
    "derivative": ("x", "y", "out", "work"),
    "add_gradient": ("parameters", "gradients", "scratch"),
}


def change(instance: Any, method: str, wrong: Callable[[Any], None]) -> Any:
    """Return the instance with `wrong(call)` called behind a method: `call` holds the node and the arguments."""
    base = type(instance)

    def changed(self: Any, xp: Any, *arguments: Any) -> None:
        getattr(base, method)(self, xp, *arguments)
        wrong(SimpleNamespace(node=self, **dict(zip(ARGUMENTS[method], arguments, strict=True))))

    return remade(type(f"Wrong{base.__name__}", (base,), {method: changed, "__module__": __name__}), instance)


FAULTS: list[Fault] = []


def plant(name: str, instance: Any, method: str, network: Callable[[Any], Network]) -> Callable[[Any], Any]:
    """Register a fault: the decorated function is called behind a method of the instance, as in `change`."""

    def register(wrong: Callable[[Any], None]) -> Callable[[Any], None]:
        FAULTS.append(Fault(name, network(instance), network(change(instance, method, wrong))))
        return wrong

    return register


def inside(layer: Node) -> Network:
    """A layer between two linear ones."""
    return Network([Linear(units=6), layer, Linear(units=3)], SoftmaxCrossEntropy())


def below(loss: Loss, classes: int = 10) -> Network:
    return Network([Linear(units=classes)], loss)


def on_one_score(loss: Loss) -> Network:
    return below(loss, 1)


def on_four(loss: Loss) -> Network:
    return below(loss, 4)


def on_indices(layer: Node) -> Network:
    """An embedding of the first feature, beside the others."""
    return Network(
        [
            Entry(Slice(start=0, stop=1), "codes", ("features",)),
            Entry(layer, "rows"),
            Entry(Reshape(shape=(3,)), "flat"),
            Entry(Slice(start=1), "rest", ("features",)),
            Entry(Concat(), "both", ("flat", "rest")),
            Linear(units=3),
        ],
        SoftmaxCrossEntropy(),
    )


def wide(layer: Node) -> Network:
    """A layer of 128 units, for which BLAS is called with transposed operands."""
    return Network([Linear(units=4), layer, Linear(units=3)], SoftmaxCrossEntropy())


def long(layer: Node) -> Network:
    """The scores of images of 28 x 28 pixels."""
    return Network([layer], SoftmaxCrossEntropy(), features=784)


def folded(layer: Node) -> Network:
    """A layer on (batch, 3, 2)."""
    return Network([Linear(units=6), Reshape(shape=(3, 2)), layer], SoftmaxCrossEntropy())


def joined(layer: Node) -> Network:
    """A layer that reads two others."""
    first, second = Entry(Linear(units=3), "a", ("features",)), Entry(Linear(units=3), "b", ("features",))
    return Network([first, second, Entry(layer, "ab", ("a", "b")), Linear(units=3)], SoftmaxCrossEntropy())


def squared(layer: Node) -> Network:
    """A layer that reads one value twice."""
    return Network(
        [Entry(Linear(units=6), "a"), Entry(layer, "aa", ("a", "a")), Linear(units=3)], SoftmaxCrossEntropy()
    )


def rescaled(layer: Node) -> Network:
    return Network(
        [Linear(units=6), Scale(factor=1e8), Scale(factor=1e-8), layer, Linear(units=3)], SoftmaxCrossEntropy()
    )


def shifted(layer: Node) -> Network:
    return Network(
        [Linear(units=6), Shift(offset=1e3), Shift(offset=-1e3), layer, Linear(units=3)], SoftmaxCrossEntropy()
    )


def vanishing(layer: Node) -> Network:
    return Network([layer, *[Sigmoid()] * 4, Linear(units=3)], SoftmaxCrossEntropy())


def penalized(penalty: Penalty) -> Network:
    return Network([Linear(units=3)], SoftmaxCrossEntropy(), penalty=penalty)


def with_inputs(instance: Any) -> Any:
    """Return the instance with its inputs retained, so that a fault can depend on them."""
    base = type(instance)
    return remade(
        type(base.__name__, (base,), {"retains": base.retains | {"inputs"}, "__module__": __name__}), instance
    )


def plant_slope(
    name: str, instance: Any, factor: Callable[[Any], Any] | float, network: Callable[[Any], Network] = inside
) -> None:
    """Register a fault of an elementwise layer: its derivative is multiplied by a number or a function of the input."""

    @plant(name, with_inputs(instance), "backward", network)
    def wrong(call: Any) -> None:
        call.out[0] *= factor(call.inputs[0]) if callable(factor) else factor
