import re
from xml.etree import ElementTree as ET

from core import BATCH, Add, Entry, Graph, Hinge, Linear, ReLU, build_classifier, to_svg, with_loss

SVG = "{http://www.w3.org/2000/svg}"


def example():
    layers = [
        Entry(Linear(units=200), name="stem"),
        Entry(Linear(units=200), name="left"),
        Entry(Linear(units=200), name="right", inputs=("stem",), share="left"),
        ReLU(),
        Entry(Add(), inputs=("left", "3_relu", "stem")),
        Linear(units=3),
    ]
    return with_loss(build_classifier(layers, 20), Hinge())


def boxes_of(tree):
    """Return left, top, right and bottom of each box, keyed by the first line of its text."""
    boxes = {}
    texts = [(text.text, float(text.get("x")), float(text.get("y"))) for text in tree.iter(f"{SVG}text")]
    for box in list(tree.iter(f"{SVG}rect"))[1:]:
        left, top, width, height = (float(box.get(name)) for name in ("x", "y", "width", "height"))
        inside = [text for text, x, y in texts if left < x < left + width and top < y < top + height]
        boxes[inside[0]] = (left, top, left + width, top + height)
    return boxes


def test_boxes_do_not_overlap_and_inputs_are_drawn_above():
    tree = ET.fromstring(to_svg(example()))
    boxes = boxes_of(tree)
    assert {name.partition(":")[0] for name in boxes} == {
        *("features", "labels", "stem", "left", "right", "3_relu", "4_add", "scores", "loss")
    }
    width, height = float(tree.get("width")), float(tree.get("height"))
    for name, (left, top, right, bottom) in boxes.items():
        assert 0 < left < right < width, name
        assert 0 < top < bottom < height, name
        for other, (left_too, top_too, right_too, bottom_too) in boxes.items():
            apart = right < left_too or right_too < left or bottom < top_too or bottom_too < top
            assert name == other or apart, (name, other)
    rows = {name.partition(":")[0]: box[1] for name, box in boxes.items()}
    assert rows["features"] < rows["stem"] < rows["left"] == rows["right"] < rows["3_relu"] < rows["4_add"]
    assert rows["scores"] == rows["labels"] < rows["loss"]


def test_each_arrow_goes_from_its_source_to_its_target():
    tree = ET.fromstring(to_svg(example()))
    boxes = boxes_of(tree)
    found = []
    for path in list(tree.iter(f"{SVG}path"))[1:]:
        numbers = [float(number) for number in re.findall(r"[\d.]+", path.get("d"))]
        ends = (numbers[:2], numbers[-2:])
        touched = [
            next(
                name.partition(":")[0]
                for name, (left, top, right, bottom) in boxes.items()
                if left - 0.2 <= x <= right + 0.2 and top - 0.2 <= y <= bottom + 0.2
            )
            for x, y in ends
        ]
        found.append((*touched, path.get("stroke-dasharray") is not None))
    assert sorted(found) == sorted(
        [
            ("features", "stem", False),
            ("stem", "left", False),
            ("stem", "right", False),
            ("left", "right", True),
            ("right", "3_relu", False),
            ("left", "4_add", False),
            ("3_relu", "4_add", False),
            ("stem", "4_add", False),
            ("4_add", "scores", False),
            ("scores", "loss", False),
            ("labels", "loss", False),
        ]
    )


def test_names_are_escaped():
    graph = Graph()
    graph.input("<a> & b", ())
    graph.add('"]]>', Add(), "<a> & b", "<a> & b")
    texts = [text.text for text in ET.fromstring(to_svg(graph)).iter(f"{SVG}text")]
    assert texts == ["<a> & b: input", "()", '"]]>: add', "()"]


def test_empty_graph_and_unused_inputs():
    graph = Graph()
    assert list(ET.fromstring(to_svg(graph)).iter(f"{SVG}text")) == []
    graph.input("x", (3, BATCH))
    graph.input("y", ())
    assert len(boxes_of(ET.fromstring(to_svg(graph)))) == 2
