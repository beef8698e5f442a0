"""Write docs/scaling.md and its picture from the model's figures."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from benchmarks.common.results import ROOT
from benchmarks.scaling.model import FLOAT, Costs, reduce_scatter

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from benchmarks.scaling.curves import Network, Point

DOCS = ROOT / "docs"
WORTH = 1.2  # times as fast: what a doubling of the workers must give to be worth it
UNEVEN = [(workers, shards) for shards in (8, 64) for workers in (3, 5, 6, 7)]

Curve = list["Point"]


def strong(curve: Curve, exchange: str) -> list[tuple[int, float]]:
    """Return workers and speed-up with the same batch, as far as every worker has a row."""
    points = [point for point in curve if point.compute is not None]
    return [(point.workers, points[0].compute / (point.compute + getattr(point, exchange))) for point in points]


def weak(curve: Curve, exchange: str) -> list[tuple[int, float]]:
    """Return workers and efficiency when each has the batch that one had."""
    alone = curve[0].compute
    return [(point.workers, alone / (alone + getattr(point, exchange))) for point in curve]


def last_worth_it(speedups: list[tuple[int, float]]) -> tuple[int, float]:
    """Return the workers, and their speed-up, after which a doubling is not worth it."""
    for (workers, now), (_, doubled) in pairwise(speedups):
        if doubled < WORTH * now:
            return workers, now
    return speedups[-1]


def last_efficient(efficiencies: list[tuple[int, float]]) -> int:
    """Return the most workers that still do half of what they would without an exchange."""
    return max(workers for workers, efficiency in efficiencies if efficiency >= 0.5)


def draw(curves: list[tuple[Network, Curve]], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for colour, (network, curve) in zip(("tab:blue", "tab:orange", "tab:green"), curves, strict=True):
        for exchange, style in (("exchange", "-"), ("wire", "--")):
            for axes, points in ((left, strong(curve, exchange)), (right, weak(curve, exchange))):
                axes.plot(*zip(*points, strict=True), style, color=colour, marker=".")
        right.plot([], [], color=colour, label=network.name)
    workers = [point.workers for point in curves[0][1]]
    left.plot(workers, workers, ":", color="grey")
    left.annotate("ideal", (12, 14), color="grey", ha="right")
    left.set(title="The same batch: times as fast as one worker", yscale="log", ylim=(0.02, 100))
    left.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    right.set(title="The same batch for every worker: efficiency", ylim=(0, 1.05))
    right.plot([], [], "k-", label="current exchange")
    right.plot([], [], "k--", label="halving, at link speed")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(workers, map(str, workers))
        axes.set_xlabel("workers, one per machine")
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["--:"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3g}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def check_table(checks: list[dict[str, Any]]) -> str:
    rows = []
    for check in checks:
        cells = [f"{check['floats']:,}", str(check["workers"])]
        for way in ("messages", "shared"):
            predicted, measured, others = (check[way][each] for each in ("predicted", "measured", "others"))
            cells += [milliseconds(predicted), milliseconds(measured), f"{measured / predicted:.2f}"]
            cells += ["" if others is None else f"{others:.1f}"]
        rows.append(cells)
    columns = ["model", "measured", "ratio", "others"]
    return table(["floats", "workers", *columns, *(f"{column}, shared" for column in columns)], rows)


def curve_table(curve: Curve) -> str:
    columns = [dict(of(curve, exchange)) for of in (strong, weak) for exchange in ("exchange", "wire")]
    rows = [
        [
            str(point.workers),
            *map(milliseconds, (point.compute, point.exchange, point.halving, point.wire)),
            *(f"{column[point.workers]:.2f}" if point.workers in column else "" for column in columns),
        ]
        for point in curve
    ]
    header = ["workers", "compute", "exchange", "halving", "at link speed"]
    return table([*header, "speed-up", "improved", "efficiency", "improved"], rows)


def uneven_table() -> str:
    """Return how much more the busiest worker moves in the reduce-scatter than it would of one sum for each."""
    floats, rows = 1 << 23, []
    for workers, shards in UNEVEN:
        busiest = max(max(each.sent, each.received) for each in reduce_scatter(workers, shards, floats))
        even = FLOAT * floats * (workers - 1) / workers
        rows.append([str(shards), str(workers), f"{busiest / even:.1f}"])
    return table(["shards", "workers", "bytes, times those of one sum for each worker"], rows)


def conclusions(curves: list[tuple[Network, Curve]]) -> str:
    def worth_it(curve: Curve, exchange: str) -> str:
        workers, speedup = last_worth_it(strong(curve, exchange))
        return "one worker" if workers == 1 else f"up to {workers} workers, {speedup:.1f} times as fast as one"

    return "\n".join(
        f"- **{network.name}** ({network.parameters:,} parameters). Worthwhile for the same batch: "
        f"{worth_it(curve, 'exchange')}; improved: {worth_it(curve, 'wire')}. At least 50% efficient, with the same "
        f"batch for every worker: up to {last_efficient(weak(curve, 'exchange'))}; improved: up to "
        f"{last_efficient(weak(curve, 'wire'))}."
        for network, curve in curves
    )


def page(
    setting: dict[str, Any], costs: Costs, checks: list[dict[str, Any]], curves: list[tuple[Network, Curve]]
) -> str:
    about = ", ".join(f"{key} {value}" for key, value in setting.items() if value is not None)
    tables = "\n\n".join(f"### {network.name}\n\n{curve_table(curve)}" for network, curve in curves)
    return (
        Path(__file__)
        .with_suffix(".md")
        .read_text()
        .format(
            about=about,
            latency=costs.latency * 1e6,
            message=costs.message * 1e6,
            byte=costs.byte * 1e9,
            addition=costs.addition * 1e9,
            checks=check_table(checks),
            worth=WORTH,
            conclusions=conclusions(curves),
            uneven=uneven_table(),
            tables=tables,
        )
    )


def write(setting: dict[str, Any], costs: Costs, checks: list[dict[str, Any]], curves: list[Any]) -> Path:
    """Write the page and its picture, and return the page's path."""
    draw(curves, DOCS / "scaling.png")
    path = DOCS / "scaling.md"
    path.write_text(page(setting, costs, checks, curves))
    return path
