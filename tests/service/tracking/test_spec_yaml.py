from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.cli.yaml_values import parse
from service.tracking.artifacts.spec_yaml import spec_yaml

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from("0123456789eE+-._xoabnyYNf~:= ")) | st.text(st.characters(codec="utf-8",
    exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(VALUES)
def test_both_versions_read_the_same(value: Any) -> None:
    text = spec_yaml({"spec": value}).decode()
    assert repr(parse(text)) == repr(yaml.safe_load(text)) == repr({"spec": value})


@pytest.mark.parametrize(
    "name", ["1e3", "0o17", "010", "1_000", "no", "2024-01-01", "1:30", ".5", "-1.", "0x1F", "~", ""]
)
def test_names_that_look_like_numbers(name: str) -> None:
    assert parse(spec_yaml({"name": name}).decode()) == {"name": name}
