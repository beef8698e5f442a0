"""Integers at the end of their range.

A layer says that its input does not fit, or computes in a time that follows from its arrays, not from the integer.
"""

from __future__ import annotations

import dataclasses
from itertools import combinations
from math import prod

import numpy as np
import pytest

from core import BATCH, Graph, GraphError, Node, Plan, Program, RandomKey, registered
from core.registry import LARGEST_INTEGER, item_type, number_type
from tests.core.fixtures.cases import BATCH as BATCH_SIZE
from tests.core.fixtures.cases import CASES

MOST_BYTES = 2**26


def integers(node):
    return [field for field in dataclasses.fields(node) if number_type(type(node).annotations[field.name]) is int]


def variants():
    """Each node, with its integers one by one and two by two at the end of their range."""
    for case in CASES:
        if isinstance(case.instance, Node):
            fields = integers(case.instance)
            for chosen in (*combinations(fields, 1), *combinations(fields, 2), *combinations(fields, 3)):
                largest = {field.name: at_the_end(case.instance, field) for field in chosen}
                yield case, largest


def at_the_end(node, field):
    end = field.metadata["le"]
    value = getattr(node, field.name)
    if item_type(type(node).annotations[field.name]) or isinstance(value, tuple):
        return (end,) * len(value or (1,))
    return end


def compiled(graph):
    """The program, or what is wrong with the graph."""
    try:
        return Program.compile(graph, ["node"], batch=BATCH_SIZE)
    except GraphError as error:
        return str(error)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("case", "largest"), list(variants()), ids=lambda each: str(getattr(each, "instance", each)))
def test_integers_at_the_end_of_their_range(case, largest):
    random = np.random.default_rng(0)
    arrays = [draw(random) for draw in case.inputs]
    graph = Graph()
    for index, array in enumerate(arrays):
        graph.input(f"x{index}", (BATCH, *array.shape[1:]), integer=array.dtype.kind == "i")
    graph.add("node", case.instance.replace(**largest), *graph.inputs)
    program = compiled(graph)
    if isinstance(program, str):
        assert "'node'" in program
    elif program.nbytes + 8 * sum(prod(each.shape) for each in program.parameters) <= MOST_BYTES:
        plan = Plan(program)
        for name, array in zip(graph.inputs, arrays, strict=True):
            plan.inputs[name][...] = array
        plan.forward(RandomKey(0, 0, 0, 0))
        plan.backward({"node": 1.0})
    # Jobs have limits on memory, which refuse the others.


def test_every_integer_has_a_range():
    for kind in ("layer", "loss", "optimizer", "schedule", "initializer", "augmentation"):
        for cls in registered(kind).values():
            for field in dataclasses.fields(cls):
                if number_type(cls.annotations[field.name]) is int:
                    assert field.metadata["le"] is not None or field.metadata["lt"] is not None, (cls, field.name)
                    assert (field.metadata["le"] or field.metadata["lt"]) <= LARGEST_INTEGER
