"""Blocks are shown folded, and expanded on request."""

import pytest

from core import Hinge, build_classifier, entry_from_spec, summary, to_dot, to_mermaid, to_svg, with_loss

MODEL = [
    {"type": "linear", "units": 8, "name": "stem"},
    {
        "type": "repeat",
        "times": 2,
        "name": "trunk",
        "layers": [
            {
                "type": "residual",
                "layers": [{"type": "linear", "units": 8, "name": "a"}, {"type": "linear", "units": 8, "share": "a"}],
            },
        ],
    },
    {"type": "add", "inputs": ["trunk", "stem"]},
    {"type": "linear", "units": 3},
]

FOLDED = """\
name      type      reads           shape       parameters
----------------------------------------------------------
features  input                     (batch, 4)
labels    integers                  (batch,)
stem      linear    features        (batch, 8)  40
trunk     repeat    stem            (batch, 8)  144
2_add     add       trunk, stem     (batch, 8)
scores    linear    2_add           (batch, 3)  27
loss      hinge     scores, labels  (batch,)
211 parameters
"""

MERMAID = """\
flowchart TD
  n0(["features: input<br/>(batch, 4)"])
  n1(["labels: integers<br/>(batch,)"])
  n2["stem: linear<br/>(batch, 8)<br/>parameters: 40"]
  n3["trunk: repeat<br/>(batch, 8)<br/>parameters: 144"]
  n4["2_add: add<br/>(batch, 8)"]
  n5["scores: linear<br/>(batch, 3)<br/>parameters: 27"]
  n6["loss: hinge<br/>(batch,)"]
  n0 --> n2
  n2 --> n3
  n3 --> n4
  n2 --> n4
  n4 --> n5
  n5 --> n6
  n1 --> n6
"""
DRAWN = pytest.mark.parametrize("draw", [summary, to_dot, to_mermaid, to_svg])


def example():
    return with_loss(build_classifier([entry_from_spec(layer) for layer in MODEL], 4), Hinge())


@pytest.mark.parametrize(("draw", "text"), [(summary, FOLDED), (to_mermaid, MERMAID)])
def test_a_block_is_one_row_or_box(draw, text):
    assert draw(example()) == text


@DRAWN
def test_layers_of_blocks_are_shown_on_request(draw):
    graph = example()
    folded, expanded = draw(graph), draw(graph, expanded=True)
    inner = [name for name in graph.groups["trunk"].nodes if name != "trunk"]
    assert len(inner) == 5
    for name in inner:
        assert name not in folded
        assert name in expanded
    assert "trunk: repeat" not in expanded


def test_parameters_are_the_same_in_both():
    graph = example()
    assert summary(graph).splitlines()[-1] == summary(graph, expanded=True).splitlines()[-1]
    assert "those of trunk_0_0_residual_layers_a" not in summary(graph)
    assert "those of trunk_0_0_residual_layers_a" in summary(graph, expanded=True)


@DRAWN
def test_a_graph_without_blocks_is_the_same_in_both(draw):
    graph = build_classifier([entry_from_spec(layer) for layer in (MODEL[0], MODEL[-1])], 4)
    assert draw(graph) == draw(graph, expanded=True)
