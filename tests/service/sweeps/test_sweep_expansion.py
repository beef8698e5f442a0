from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.sweeps.expansion import NoSuchPlaceError, expand, overridden
from service.sweeps.search import Over

names = st.text("abcdefgh", min_size=1, max_size=3)
values = st.integers() | st.booleans() | names
grids = st.dictionaries(names, st.lists(values, min_size=1, max_size=4), min_size=1, max_size=3)
seed_lists = st.lists(st.integers(0, 99), unique=True, max_size=3)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(grid=grids, seeds=seed_lists)
def test_a_grid_has_every_combination_once(grid: dict[str, Any], seeds: list[int]) -> None:
    over = Over.model_validate({"grid": grid})
    members = expand(over, seeds)
    axes = {**grid, **({"training.seed": seeds} if seeds else {})}
    assert len(members) == over.size * (len(seeds) or 1) == math.prod(len(entries) for entries in axes.values())
    for number, member in enumerate(members):
        expected, rest = {}, number
        for field, entries in reversed(axes.items()):
            rest, index = divmod(rest, len(entries))
            expected[field] = entries[index]
        assert member == expected


@given(entries=st.lists(st.dictionaries(names, values), min_size=1, max_size=5), seeds=seed_lists)
def test_a_list_is_used_unchanged(entries: list[dict[str, Any]], seeds: list[int]) -> None:
    members = expand(Over.model_validate({"list": entries}), seeds)
    assert members == [
        {**entry, **({} if seed is None else {"training.seed": seed})} for entry in entries for seed in seeds or [None]
    ]


def search(samples: int, seed: int, **fields: Any) -> list[dict[str, Any]]:
    return expand(Over.model_validate({"random": {"fields": fields, "samples": samples, "seed": seed}}), [])


@given(
    seed=st.integers(0, 2**63 - 1),
    samples=st.integers(1, 20),
    uniform=st.tuples(finite, finite).map(sorted),
    logs=st.tuples(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300)).map(sorted),
    integers=st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)).map(sorted),
)
def test_random_search_stays_in_its_bounds_and_is_stable(
    seed: int, samples: int, uniform: list[float], logs: list[float], integers: list[int]
) -> None:
    fields = {"u": {"uniform": uniform}, "l": {"log_uniform": logs}, "i": {"integers": integers}}
    drawn = search(samples, seed, **fields)
    assert len(drawn) == samples
    for member in drawn:
        for field, (low, high) in {"u": uniform, "l": logs, "i": integers}.items():
            assert low <= member[field] <= high
    more = search(samples + 3, seed, c={"choices": ["a", "b"]}, **fields)
    assert all(member["c"] in {"a", "b"} for member in more)
    assert [{field: member[field] for field in fields} for member in more[:samples]] == drawn


def test_random_search_depends_on_its_seed() -> None:
    fields = {"lr": {"log_uniform": [1e-4, 1]}, "units": {"integers": [1, 2]}}
    first, second = search(1000, 1, **fields), search(1000, 2, **fields)
    assert first != second
    assert {member["units"] for member in first} == {1, 2}
    below = sum(member["lr"] < 1e-2 for member in first)
    assert 430 < below < 570, "log_uniform is uniform in the logarithm"


@pytest.mark.parametrize(
    "over",
    [
        {},
        {"grid": {"a": [1]}, "list": [{}]},
        {"grid": {"a": []}},
        {"grid": {"a..b": [1]}},
        {"random": {"fields": {"a": {"uniform": [2, 1]}}, "samples": 1}},
        {"random": {"fields": {"a": {"log_uniform": [0, 1]}}, "samples": 1}},
        {"random": {"fields": {"a": {"uniform": [1, 2], "choices": [1]}}, "samples": 1}},
        {"random": {"fields": {"a": {"choices": [1]}}, "samples": 1001}},
    ],
)
def test_an_invalid_search_is_rejected(over: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Over.model_validate(over)


def test_overrides_change_objects_and_lists_in_a_copy() -> None:
    base = {"model": {"layers": [{"units": 1}, {"units": 2}]}, "loss": {"type": "hinge"}, "clipping": None}
    overrides = {"model.layers.1.units": 5, "loss": {"type": "softmax"}, "penalty.l2": 0.5, "clipping.max": 1}
    assert overridden(base, overrides) == {
        "model": {"layers": [{"units": 1}, {"units": 5}]},
        "loss": {"type": "softmax"},
        "penalty": {"l2": 0.5},
        "clipping": {"max": 1},
    }
    assert base == {"model": {"layers": [{"units": 1}, {"units": 2}]}, "loss": {"type": "hinge"}, "clipping": None}


@pytest.mark.parametrize("field", ["model.layers.2.units", "model.layers.x", "model.layers.-1", "name.first"])
def test_a_path_that_does_not_exist_is_rejected(field: str) -> None:
    with pytest.raises(NoSuchPlaceError, match=field.replace(".", r"\.")):
        overridden({"name": "n", "model": {"layers": [{}, {}]}}, {field: 1})
