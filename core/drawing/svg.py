"""Picture of a graph as an SVG, which every browser draws."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from core.drawing.boxes import arrows_of, words_of
from core.graph.table import Row, table_rows

if TYPE_CHECKING:
    from core.graph.graph import Graph

# Pixels: of a line of text, of a character, between boxes, between long arrows, around all.
LINE, CHARACTER, GAP, LANE, EDGE = 16, 7.2, 34, 12, 12
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" \
font-family="sans-serif" font-size="12" text-anchor="middle">
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0L8 4L0 8z" fill="#444444"/></marker></defs>
<rect width="100%" height="100%" fill="white"/>
"""


class _Box(NamedTuple):
    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


def to_svg(graph: Graph, *, expanded: bool = False) -> str:
    """Return the graph as an SVG, from the inputs at the top downwards; see `to_dot` for what it shows."""
    found = table_rows(graph, expanded=expanded)
    boxes, width, height = _place(found)
    arrows = []
    for source, target, shares in arrows_of(found):
        begin, end = boxes[source], boxes[target]
        if begin.top == end.top:
            path = _sideways(begin, end)
        elif end.top - begin.top - begin.height <= GAP + LINE:
            path = _downwards(begin, end)
        else:
            # What passes other boxes by gets a lane of its own beside all of them.
            path = _around(begin, end, width)
            width += LANE
        dashes = ' stroke-dasharray="5 4"' if shares else ""
        arrows.append(f'<path d="{path}" fill="none" stroke="#444444" marker-end="url(#tip)"{dashes}/>\n')
    drawn = [_box(entry, box) for entry, box in zip(found, boxes, strict=True)]
    return "".join([HEAD.format(width, height), *arrows, *drawn, "</svg>\n"])


def _place(found: list[Row]) -> tuple[list[_Box], float, float]:
    """Arrange the boxes in rows; return them, and the width and height of the picture."""
    rows = _rows(found)
    sizes = [_size(entry) for entry in found]
    order = sorted(range(len(found)), key=rows.__getitem__)
    grouped = [list(positions) for _, positions in groupby(order, key=rows.__getitem__)]
    whole = max((sum(sizes[each][0] + GAP for each in row) - GAP for row in grouped), default=0) + 2 * EDGE
    boxes = dict.fromkeys(range(len(found)), _Box(0, 0, 0, 0))
    top = float(EDGE)
    for row in grouped:
        left = (whole - sum(sizes[each][0] + GAP for each in row) + GAP) / 2
        for each in row:
            boxes[each] = _Box(left, top, *sizes[each])
            left += sizes[each][0] + GAP
        top += max(sizes[each][1] for each in row) + GAP
    return list(boxes.values()), whole, max(top - GAP, EDGE) + EDGE


def _rows(found: list[Row]) -> list[int]:
    """The row of each entry: one below the lowest that it reads, and an input just above the first that reads it."""
    rows: dict[str, int] = {}
    for entry in found:
        rows[entry.name] = 1 + max((rows[source] for source in entry.reads), default=-1)
    for entry in found:
        if not entry.reads:
            rows[entry.name] = min((rows[each.name] for each in found if entry.name in each.reads), default=1) - 1
    return list(rows.values())


def _size(entry: Row) -> tuple[float, float]:
    words = words_of(entry)
    return CHARACTER * max(map(len, words)) + 20, LINE * len(words) + 10


def _box(entry: Row, box: _Box) -> str:
    fill, radius = ("#e8f1f8", 4) if entry.owner else ("#fdf3dc", LINE)
    lines = [
        f'<text x="{box.middle:.1f}" y="{box.top + LINE * (number + 1):.1f}">{escape(text)}</text>'
        for number, text in enumerate(words_of(entry))
    ]
    return (
        f'<rect x="{box.left:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius}" '
        f'fill="{fill}" stroke="#444444"/>{"".join(lines)}\n'
    )


def _sideways(source: _Box, target: _Box) -> str:
    y = source.top + source.height / 2
    if source.left < target.left:
        return f"M{source.left + source.width:.1f} {y:.1f}L{target.left:.1f} {y:.1f}"
    return f"M{source.left:.1f} {y:.1f}L{target.left + target.width:.1f} {y:.1f}"


def _downwards(source: _Box, target: _Box) -> str:
    begin, end, bend = source.top + source.height, target.top, GAP
    return (
        f"M{source.middle:.1f} {begin:.1f}C{source.middle:.1f} {begin + bend:.1f} "
        f"{target.middle:.1f} {end - bend:.1f} {target.middle:.1f} {end:.1f}"
    )


def _around(source: _Box, target: _Box, lane: float) -> str:
    begin, end = source.top + source.height, target.top
    return (
        f"M{source.middle:.1f} {begin:.1f}L{lane:.1f} {begin + GAP / 2:.1f} "
        f"{lane:.1f} {end - GAP / 2:.1f} {target.middle:.1f} {end:.1f}"
    )
