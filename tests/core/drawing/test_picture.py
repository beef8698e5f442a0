import pytest

from core import (
    BATCH,
    Add,
    Entry,
    Graph,
    Hinge,
    Linear,
    ReLU,
    build_classifier,
    registered,
    summary,
    to_dot,
    to_mermaid,
    with_loss,
)

SUMMARY = """\
name      type      reads           shape         parameters
---------------------------------------------------------------
features  input                     (batch, 20)
labels    integers                  (batch,)
stem      linear    features        (batch, 200)  4,200
left      linear    stem            (batch, 200)  40,200
right     linear    stem            (batch, 200)  those of left
3_add     add       left, right     (batch, 200)
4_relu    relu      3_add           (batch, 200)
scores    linear    4_relu          (batch, 3)    603
loss      hinge     scores, labels  (batch,)
45,003 parameters
"""

DOT = r"""digraph {
  node [shape=box];
  n0 [label="features: input\n(batch, 20)", shape=ellipse];
  n1 [label="labels: integers\n(batch,)", shape=ellipse];
  n2 [label="stem: linear\n(batch, 200)\nparameters: 4,200"];
  n3 [label="left: linear\n(batch, 200)\nparameters: 40,200"];
  n4 [label="right: linear\n(batch, 200)\nparameters: those of left"];
  n5 [label="3_add: add\n(batch, 200)"];
  n6 [label="4_relu: relu\n(batch, 200)"];
  n7 [label="scores: linear\n(batch, 3)\nparameters: 603"];
  n8 [label="loss: hinge\n(batch,)"];
  n0 -> n2;
  n2 -> n3;
  n2 -> n4;
  n3 -> n4 [style=dashed, constraint=false];
  n3 -> n5;
  n4 -> n5;
  n5 -> n6;
  n6 -> n7;
  n7 -> n8;
  n1 -> n8;
}
"""

MERMAID = """\
flowchart TD
  n0(["features: input<br/>(batch, 20)"])
  n1(["labels: integers<br/>(batch,)"])
  n2["stem: linear<br/>(batch, 200)<br/>parameters: 4,200"]
  n3["left: linear<br/>(batch, 200)<br/>parameters: 40,200"]
  n4["right: linear<br/>(batch, 200)<br/>parameters: those of left"]
  n5["3_add: add<br/>(batch, 200)"]
  n6["4_relu: relu<br/>(batch, 200)"]
  n7["scores: linear<br/>(batch, 3)<br/>parameters: 603"]
  n8["loss: hinge<br/>(batch,)"]
  n0 --> n2
  n2 --> n3
  n2 --> n4
  n3 -.-> n4
  n3 --> n5
  n4 --> n5
  n5 --> n6
  n6 --> n7
  n7 --> n8
  n1 --> n8
"""


def example():
    layers = [
        Entry(Linear(units=200), name="stem"),
        Entry(Linear(units=200), name="left"),
        Entry(Linear(units=200), name="right", inputs=("stem",), share="left"),
        Entry(Add(), inputs=("left", "right")),
        ReLU(),
        Linear(units=3),
    ]
    return with_loss(build_classifier(layers, 20), Hinge())


@pytest.mark.parametrize(("draw", "text"), [(summary, SUMMARY), (to_dot, DOT), (to_mermaid, MERMAID)])
def test_golden(draw, text):
    assert draw(example()) == text


def test_names_are_escaped():
    graph = Graph()
    graph.input('a"];\n', ())
    graph.add("<b>\\N#1`", Add(), 'a"];\n', 'a"];\n')
    assert to_dot(graph).splitlines()[2:] == [
        r'  n0 [label="a\"]; : input\n()", shape=ellipse];',
        r'  n1 [label="<b>\\N#1`: add\n()"];',
        "  n0 -> n1;",
        "  n0 -> n1;",
        "}",
    ]
    assert to_mermaid(graph).splitlines()[1:] == [
        '  n0(["a#34;];#10;: input<br/>()"])',
        '  n1["#60;b#62;#92;N#35;1#96;: add<br/>()"]',
        "  n0 --> n1",
        "  n0 --> n1",
    ]


def test_empty_graph_and_scalars():
    graph = Graph()
    assert summary(graph).endswith("0 parameters\n")
    assert to_dot(graph) == "digraph {\n  node [shape=box];\n}\n"
    assert to_mermaid(graph) == "flowchart TD\n"
    graph.input("x", (3, BATCH))
    graph.input("y", ())
    assert [line.split(maxsplit=2) for line in summary(graph).splitlines()[2:4]] == [
        ["x", "input", "(3, batch)"],
        ["y", "input", "()"],
    ]


def test_running_averages_are_not_counted_as_parameters():
    norm = registered("layer")["batch_norm"]()
    graph = build_classifier([norm, Linear(units=2)], 10)
    assert "20\n" in summary(graph).splitlines()[3] + "\n", "one scale and one shift per feature"
    assert summary(graph).endswith("\n42 parameters\n")
