"""Results of the service's benchmark as tables, with the project's goals, and as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.common import results as files

if TYPE_CHECKING:
    from benchmarks.service.http_load import Load

READ_GOAL_MS = 50.0  # p99 of a read at the fixed rate
SLOWDOWN_GOAL = 0.05


def request_row(name: str, steady: Load, fastest: Load, *, quiet: bool) -> dict[str, Any]:
    return {
        "request": name,
        "steady": {
            "per_second": round(steady.per_second),
            "p50": steady.milliseconds(0.5),
            "p99": steady.milliseconds(0.99),
        },
        "fastest": {
            "per_second": round(fastest.per_second),
            "p50": fastest.milliseconds(0.5),
            "p99": fastest.milliseconds(0.99),
        },
        "quiet": quiet,
    }


def posts_row(clients: int, posts: int, lost: int, doubled: int, seconds: float, each: list[float]) -> dict[str, Any]:
    return {
        "clients": clients,
        "jobs": posts,
        "lost": lost,
        "doubled": doubled,
        "seconds": round(seconds, 2),
        "p50": round(float(np.quantile(each, 0.5)) * 1e3, 1),
        "p99": round(float(np.quantile(each, 0.99)) * 1e3, 1),
    }


def streams_row(streams: int, alone: list[float], watched: list[float], messages: float) -> dict[str, Any]:
    """Return the figures of training with readers of its events. Rounds are pairs, within which noise cancels."""
    slowdown = 1 - np.divide(watched, alone)
    low, high = np.quantile(slowdown, (0.25, 0.75))
    return {
        "streams": streams,
        "messages_per_second": round(messages),
        "steps_per_second": {"alone": round(float(np.median(alone))), "watched": round(float(np.median(watched)))},
        "slowdown": round(float(np.median(slowdown)), 4),
        "quartiles": [round(float(low), 4), round(float(high), 4)],
    }


def _goal(value: float, most: float, form: str) -> str:
    return f"{value:{form}} ({'met' if value < most else 'missed'}: {most:{form}})"


def text(results: dict[str, Any]) -> str:
    """Return the tables."""
    lines = [
        "| request | per second | p50, ms | p99, ms | as fast as possible: per second | p50, ms | p99, ms |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["requests"]:
        steady, fastest = row["steady"], row["fastest"]
        p99 = _goal(steady["p99"], READ_GOAL_MS, "g") if row["request"].startswith("GET") else f"{steady['p99']:g}"
        cells = [row["request"], steady["per_second"], steady["p50"], p99]
        cells += [fastest["per_second"], fastest["p50"], fastest["p99"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    posts, streams = results["posts"], results["streams"]
    steps, (low, high) = streams["steps_per_second"], streams["quartiles"]
    lines += [
        "",
        f"{posts['jobs']} jobs posted at once by {posts['clients']} clients, each twice with its key, while they "
        f"start: {posts['lost']} lost, {posts['doubled']} doubled, in {posts['seconds']} s; a post takes "
        f"{posts['p50']} ms at the median, {posts['p99']} ms at the 99th percentile.",
        "",
        f"{streams['streams']} live event streams, {streams['messages_per_second']} messages a second, while two jobs "
        f"train on both cores: {steps['watched']:,} steps a second instead of {steps['alone']:,}, slower by "
        f"{_goal(streams['slowdown'], SLOWDOWN_GOAL, '.1%')}, quartiles {low:.1%} to {high:.1%}. The readers run "
        "on the same cores.",
    ]
    disturbed = sum(not row["quiet"] for row in results["requests"])
    if disturbed:
        lines.append(f"\nThe machine was not idle before {disturbed} of the loads.")
    return "\n".join(lines)


def write(results: dict[str, Any]) -> None:
    """Write the results as JSON and as Markdown."""
    setting = files.machine()
    heading = (
        f"# The REST API under load\n\n{files.about(setting)}. "
        "SQLite, one process; the clients run on the same cores.\n\n"
        "At a fixed rate, the time of a request begins when it is due.\n\n"
    )
    files.write(f"service-{setting['date']}", {"machine": setting} | results, f"{heading}{text(results)}\n")
