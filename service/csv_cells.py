"""Cells of CSV files, as text that no spreadsheet evaluates."""

from __future__ import annotations

import re
from typing import Any

# Where a spreadsheet could see the start of a formula: at the start of the text, and after what may separate columns or
# lines. The last four characters of the list are full-width forms, which some spreadsheets accept too.
FORMULA = re.compile(r"^(?=\s*[-=+@－＝＋＠\t\r\n])|(?<=[,;\t\r\n])(?=[-=+@－＝＋＠])")
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")


def cell(value: Any) -> Any:
    """Return a value of a cell. Text that a spreadsheet would evaluate gets an apostrophe before the formula.

    Numbers, and text that is a number such as "-1.5", stay as they are.
    """
    return value if not isinstance(value, str) or NUMBER.fullmatch(value) else FORMULA.sub("'", value)
