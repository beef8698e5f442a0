from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.negotiation import preferred

OFFERED = ("application/json", "text/csv", "text/event-stream")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("text/*", "text/csv"),
        ("text/*, text/csv;q=0.1", "text/event-stream"),
        ("text/event-stream, */*", "text/event-stream"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("application/json;q=0, */*", "text/csv"),
        ("*/*;q=0.1, text/csv;q=0", "application/json"),
        ("text/html, application/*;q=0.8", "application/json"),
        ("image/png", None),
        ("*/*;q=0", None),
        ("text/csv;q=2", None),
        ("text/csv;q=nan", None),
        ("text/csv;q=x, application/json;q=0.1", "application/json"),
        (",;/", None),
    ],
)
def test_preferred_media_type(accept: str, chosen: str | None) -> None:
    assert preferred(accept, OFFERED) == chosen


@given(accept=st.text(st.sampled_from("*/,;q=01.textcsvapplicationjson ")))
def test_any_header_is_parsed(accept: str) -> None:
    assert preferred(accept, OFFERED) in {*OFFERED, None}
