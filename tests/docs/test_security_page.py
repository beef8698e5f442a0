"""The settings, defaults and tests that docs/security.md names exist."""

import re
from pathlib import Path

from service.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_limits_and_their_defaults():
    rows = re.findall(r"^\|[^|]+\| `(\w+)` \| ([\d,]+) ?(MiB|GiB|s|) \| \d{3}", PAGE, re.MULTILINE)
    assert len(rows) == 13
    for name, number, unit in rows:
        value = int(number.replace(",", "")) * {"MiB": 2**20, "GiB": 2**30}.get(unit, 1)
        assert Settings.model_fields[name].default == value, name


def test_settings_on_the_page_exist():
    named = set(re.findall(r"GRADFLEET_([A-Z_]+)", PAGE))
    assert len(named) >= 5
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_test_files_on_the_page_exist():
    named = re.findall(r"test_\w+\.py", PAGE)
    assert len(named) >= 9
    for name in named:
        assert list((ROOT / "tests").rglob(name)), name
