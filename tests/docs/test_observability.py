"""docs/observability.md lists all metrics and all fields of the log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from service.monitoring.prometheus import Exposition
from service.settings import Settings
from service.store import Database, migrate
from service.telemetry.instruments import REQUEST_DURATION, REQUESTS
from service.telemetry.logs import FIELDS

if TYPE_CHECKING:
    from prometheus_client import Metric

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
SUFFIXES = {"counter": "_total", "info": "_info"}


def row(family: Metric) -> str:
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    name = family.name + SUFFIXES.get(family.type, "") + (f"{{{', '.join(labels)}}}" if labels else "")
    return f"| `{name}` | {family.type} | {family.documentation} |"


def table(tmp_path: Path) -> str:
    settings = Settings(data_dir=tmp_path)
    migrate(settings.database)
    database = Database(settings.database)
    for instrument in (REQUESTS, REQUEST_DURATION):
        instrument.labels("GET", "/healthz", 200)
    own = [family for family in Exposition(database).collect() if family.name.startswith("gradfleet_")]
    database.close()
    return "\n".join(["| name | kind | what |", "|---|---|---|", *map(row, own)])


def test_table_lists_the_metrics_of_a_scrape(tmp_path: Path) -> None:
    (found,) = re.findall(r"<!-- figures:[^>]*-->\n(.*?)\n?<!-- end -->", PAGE, re.DOTALL)
    assert found == table(tmp_path)


def test_metrics_in_queries_exist(tmp_path: Path) -> None:
    (queries,) = re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
    known = set(re.findall(r"`(gradfleet_\w+)", table(tmp_path)))
    asked = {name.removesuffix("_bucket") for name in re.findall(r"gradfleet_\w+", queries)}
    assert len(asked) > 5
    assert asked <= known


def test_page_lists_every_field_of_the_log() -> None:
    assert [field for field in FIELDS if f"`{field}`" not in PAGE] == []
