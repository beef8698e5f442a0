"""The page on security names the settings, defaults and tests that there are."""

import re
from pathlib import Path

from service.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_limits_and_their_defaults():
    rows = re.findall(r"^\|[^|]+\| `(\w+)` \| ([\d,]+) ?(MiB|GiB|s|) \| \d{3}", PAGE, re.MULTILINE)
    assert len(rows) == 7
    for name, figure, unit in rows:
        value = int(figure.replace(",", "")) * {"MiB": 2**20, "GiB": 2**30}.get(unit, 1)
        assert Settings.model_fields[name].default == value, name


def test_every_setting_that_is_named_is_one():
    named = set(re.findall(r"GRADFLEET_([A-Z_]+)", PAGE))
    assert len(named) >= 5
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_every_test_that_is_named_is_there():
    named = re.findall(r"test_\w+\.py", PAGE)
    assert len(named) >= 9
    for name in named:
        assert list((ROOT / "tests").rglob(name)), name
