"""The preparation of tables: statistics of the training rows, and the numbers that the model reads, by scikit-learn."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

from core.tables import preparation
from core.tables.column import Column
from core.tables.preparation import Preparation, Preparer
from core.tables.treatments import (
    CategoryTreatment,
    NumberTreatment,
    Treatment,
    treatment_from_json,
    treatment_json,
)
from tests.workers.fixtures.tabular import NAN, Given, categories, numbers
from workers.data import fitting
from workers.data.fitting import fit
from workers.data.scaling import standardization

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}


def prepared(made: Preparation, raw: NDArray[Any], rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    preparer = Preparer(made)
    rows = np.arange(len(raw)) if rows is None else rows
    out = np.full((len(rows), preparer.width), np.nan, np.float32)
    preparer.load(raw, rows, out)
    return out


def raw_of(columns: list[Given]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.column_stack([column.raw for column in columns]))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Given], list[Treatment], NDArray[np.int64]]:
    """Columns, how they are prepared, and the rows to train on."""
    rows, random = draw(st.integers(1, 25)), np.random.default_rng(draw(st.integers(0, 2**32)))
    columns: list[Given] = []
    treatments: list[Treatment] = []
    for position in range(draw(st.integers(1, 5))):
        gaps = random.random(rows) < draw(st.sampled_from([0, 0.3, 0.9]))
        if draw(st.booleans()):
            # Multiples of 1/8, of which float32 is exact, with many equal ones.
            values = random.integers(-40, draw(st.sampled_from([-30, 0, 400])), rows) / 8
            column = numbers(f"n{position}", np.where(gaps, np.nan, values).tolist())
            log = draw(st.booleans())
            clip = (0.0, 30.0) if log else draw(st.sampled_from([None, (0.0, 20.0), (-3.0, -3.0)]))
            impute = draw(st.sampled_from(["mean", "median", "most_frequent", 0.0, 7.5]))
            scale = draw(st.sampled_from(["standard", "minmax", "none"]))
            treatments.append(NumberTreatment(column.column, impute, draw(st.booleans()), clip, log, scale))
        else:
            texts = random.choice([*"abcdef"], rows).tolist()
            column = categories(f"c{position}", [None if gap else text for gap, text in zip(gaps, texts, strict=True)])
            known = column.column.categories
            encode = draw(st.sampled_from(["one_hot", "index"]))
            impute = draw(st.sampled_from([None, *(["most_frequent", known[0], known[-1]] if known else [])]))
            treatments.append(CategoryTreatment(column.column, encode, impute))
        columns.append(column)
    train = np.sort(random.permutation(rows)[: draw(st.integers(1, rows))])
    return columns, treatments, train


def steps_of(treatment: NumberTreatment) -> Any:
    """A pipeline of scikit-learn that does the same."""
    given_number = not isinstance(treatment.impute, str)
    steps: list[Any] = [
        SimpleImputer(
            strategy="constant" if given_number else treatment.impute,
            fill_value=treatment.impute if given_number else None,
            keep_empty_features=True,
        )
    ]
    if treatment.clip is not None:
        low, high = treatment.clip
        steps.append(FunctionTransformer(np.clip, kw_args={"a_min": low, "a_max": high}))
    if treatment.log:
        steps.append(FunctionTransformer(np.log1p))
    if treatment.scale != "none":
        steps.append(SCALERS[treatment.scale]())
    return make_pipeline(*steps)


def expected_numbers(treatment: NumberTreatment, values: Any, train: Any) -> tuple[Any, float]:
    """The prepared numbers of a column, and how much rounding to float32 can change them."""
    column = np.array([[np.nan if value is None else value] for value in values], np.float64)
    parts: list[Any] = [("values", steps_of(treatment), [0])]
    if treatment.has_indicator:
        parts.append(("missing", MissingIndicator(features="all", error_on_new=False), [0]))
    transformer = ColumnTransformer(parts).fit(column[train])
    last = transformer.named_transformers_["values"][-1]
    divisor = {"standard": lambda: last.scale_[0], "minmax": lambda: 1 / last.scale_[0], "none": lambda: 1.0}
    largest = max([1.0, *(abs(value) for value in values if value is not None)])
    return transformer.transform(column), 4 * 2.0**-24 * largest / divisor[treatment.scale]()


def expected_categories(treatment: CategoryTreatment, values: Any, train: Any) -> Any:
    known = treatment.column.categories
    column = np.array([[value] for value in values], object)
    column[column == None] = np.nan  # noqa: E711  elementwise
    absent = all(value is None for value in np.array(values, object)[train])
    if treatment.impute == "most_frequent" and not absent:
        column = SimpleImputer(strategy="most_frequent").fit(column[train]).transform(column)
    elif treatment.impute not in {None, "most_frequent"}:
        column = (
            SimpleImputer(strategy="constant", fill_value=treatment.impute, keep_empty_features=True)
            .fit(column[train])
            .transform(column)
        )
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(column[train])
    places = [len(known) if isinstance(name, float) else known.index(name) for name in encoder.categories_[0]]
    expected = np.zeros((len(values), len(known) + 1))
    expected[:, places] = encoder.transform(column)
    if treatment.encode == "index":
        known_rows = expected[:, :-1].any(axis=1)
        return np.where(known_rows, expected.argmax(axis=1), len(known))[:, None]
    return expected[:, : treatment.width]


@settings(max_examples=60)
@given(tables(), st.sampled_from([1, 64, preparation.PIECE]))
def test_the_prepared_numbers_are_those_of_scikit_learn(table: Any, piece: int) -> None:
    columns, treatments, train = table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "PIECE", piece)
        patch.setattr(fitting, "CHUNK", piece)
        found = prepared(fit(tuple(treatments), raw_of(columns), train), raw_of(columns))
    start = 0
    for column, treatment in zip(columns, treatments, strict=True):
        part = found[:, start : start + treatment.width]
        start += treatment.width
        assert len(treatment.names) == treatment.width
        if isinstance(treatment, NumberTreatment):
            expected, slack = expected_numbers(treatment, column.values, train)
            np.testing.assert_allclose(part, expected, rtol=1e-6, atol=slack)
        else:
            np.testing.assert_array_equal(part, expected_categories(treatment, column.values, train))
    assert start == found.shape[1]


@given(tables(), st.integers(0, 2**32))
def test_the_statistics_do_not_depend_on_the_other_rows(table: Any, seed: int) -> None:
    """Those of the validation rows may have any values among the existing numbers and categories."""
    columns, treatments, train = table
    raw, random = raw_of(columns), np.random.default_rng(seed)
    made = fit(tuple(treatments), raw, train)
    others = np.setdiff1d(np.arange(len(raw)), train)
    for column in range(raw.shape[1]):
        raw[others, column] = random.choice(raw[:, column], len(others))
    again = fit(tuple(treatments), raw, train)
    for name, tensor in made.tensors.items():
        assert again.tensors[name].tobytes() == tensor.tobytes(), name


@given(tables(), st.integers(0, 2**32))
def test_the_bits_of_a_row_depend_on_it_alone(table: Any, seed: int) -> None:
    """Whatever rows it is prepared with, also by a preparation that went through its saved form."""
    columns, treatments, train = table
    raw = raw_of(columns)
    made = fit(tuple(treatments), raw, train)
    documents = [json.loads(json.dumps(treatment_json(treatment))) for treatment in treatments]
    saved = tuple(
        treatment_from_json(document, treatment.column)
        for document, treatment in zip(documents, treatments, strict=True)
    )
    assert saved == tuple(treatments)
    expected = prepared(made, raw)
    rows = np.random.default_rng(seed).integers(0, len(raw), 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "PIECE", 300)
        assert prepared(Preparation.of(saved, made.tensors), raw, rows).tobytes() == expected[rows].tobytes()


def number(values: list[float | None], impute: Any = "median", **changes: Any) -> Preparation:
    column = numbers("x", values)
    treatment = NumberTreatment(column.column, impute, **{"scale": "none", **changes})
    return fit((treatment,), raw_of([column]), np.arange(len(values)))


@pytest.mark.parametrize(
    ("values", "impute", "fill"),
    [
        ([3.0, 1.0, None, 2.0], "median", 2.0),
        ([4.0, 1.0, None, 2.0, 8.0], "median", 3.0),
        ([4.0, 1.0, None, 2.5], "mean", 2.5),
        # Of equally frequent numbers the smallest one.
        ([5.0, 2.0, None, 5.0, 2.0, 9.0], "most_frequent", 2.0),
        ([7.0, 3.0, None, 9.0], "most_frequent", 3.0),
        ([None, None], "median", 0.0),
        ([None, None], "mean", 0.0),
        ([None], "most_frequent", 0.0),
        ([None], 5.5, 5.5),
        # The sum exceeds float32.
        ([3e38, 3e38, None], "mean", np.float32(3e38)),
        ([3e38, 3e38, None], "median", np.float32(3e38)),
    ],
)
def test_what_replaces_a_missing_number(values: list[float | None], impute: Any, fill: float) -> None:
    assert number(values, impute).fill.tolist() == [fill]


def test_the_sign_of_zero_does_not_depend_on_the_order_of_the_rows() -> None:
    for values in ([0.0, -0.0, None], [-0.0, 0.0, None], [-0.0, None]):
        for impute in ("median", "most_frequent", "mean"):
            assert not np.signbit(number(values, impute).fill).any()


def category(values: list[str | None], train: int, *, encode: Any = "one_hot", impute: str | None = None) -> Any:
    """The prepared rows of a column of categories; the first rows are those to train on."""
    column = categories("c", values)
    treatment = CategoryTreatment(column.column, encode, impute)
    return prepared(fit((treatment,), raw_of([column]), np.arange(train)), raw_of([column])).tolist()


def test_categories_that_no_training_row_has_are_unseen() -> None:
    assert category(["b", "a", "c"], 2) == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert category(["b", "a", "c", None], 2, encode="index") == [[1], [0], [3], [3]]
    # A missing value has a place, but is unseen too where no training row has one.
    assert category(["b", None, "a"], 2) == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert category(["b", "a", None], 2) == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_missing_categories_are_imputed() -> None:
    # Of equally frequent categories the first one.
    assert category(["b", "a", "c", None], 2, impute="most_frequent") == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]]
    # The category is seen as soon as a training row is imputed with it.
    assert category(["b", None, "c"], 2, impute="c") == [[1, 0], [0, 1], [0, 1]]
    assert category(["b", "b", "c", None], 2, impute="c") == [[1, 0], [1, 0], [0, 0], [0, 0]]
    assert category(["b", None, "a"], 2, encode="index", impute="most_frequent") == [[1], [1], [2]]
    assert category([None, "a"], 1, impute="most_frequent") == [[0], [0]]


def test_other_values_than_the_known_ones_are_unseen() -> None:
    """A prediction may have a category that the dataset does not have, and a value missing that the dataset has."""
    columns = [categories("c", ["a", "b"]), categories("i", ["a", "b"]), numbers("n", [1.0, 3.0])]
    treatments = (
        CategoryTreatment(columns[0].column),
        CategoryTreatment(columns[1].column, "index"),
        NumberTreatment(columns[2].column, scale="none"),
    )
    made = fit(treatments, raw_of(columns), np.arange(2))
    rows = np.array([[2, 2, 5], [np.nan, np.nan, np.nan]], np.float32)
    assert prepared(made, rows).tolist() == [[0, 0, 2, 5], [0, 0, 2, 2]]


def test_a_logarithm_is_always_a_number() -> None:
    made = number([0.0, 1.0], log=True)
    found = prepared(made, np.array([[-1], [-5], [-np.inf], [np.e - 1]], np.float32))
    assert np.isfinite(found).all()
    assert found[3, 0] == pytest.approx(1)


def test_a_column_of_lists_has_the_statistics_of_each_of_its_numbers() -> None:
    column = Column("x", "number", width=2, missing=True)
    raw = np.array([[1, 10], [3, np.nan], [np.nan, 30]], np.float32)
    treatment = NumberTreatment(column, scale="none")
    assert treatment.names == ["x 1", "x 2", "x 1 is missing", "x 2 is missing"]
    found = prepared(fit((treatment,), raw, np.arange(3)), raw)
    assert found.tolist() == [[1, 10, 0, 0], [3, 20, 0, 1], [2, 30, 1, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_plain_numbers_have_the_bits_of_standardization(dtype: type) -> None:
    random = np.random.default_rng(0)
    raw = (random.normal(size=(300, 13)) * 20 + 128).astype(dtype)
    train = np.sort(random.permutation(300)[:250])
    treatments = tuple(NumberTreatment(Column(f"x{index}", "number")) for index in range(13))
    made, scaling = fit(treatments, raw, train), standardization(raw, train)
    assert (made.mean.tobytes(), made.deviation.tobytes()) == (scaling.mean.tobytes(), scaling.deviation.tobytes())
    expected = (raw.astype(np.float32) - scaling.mean) / scaling.deviation
    assert prepared(made, raw).tobytes() == expected.tobytes()


def test_names_and_words() -> None:
    age = Column("age", "number", missing=True)
    port = Column("port", "category", categories=("C", "S"), missing=True)
    assert NumberTreatment(age).names == ["age", "age is missing"]
    assert NumberTreatment(age, indicator=False).names == ["age"]
    assert NumberTreatment(age, clip=(0, 90), log=True).words == (
        "impute median, clip to 0, 90, log(1 + x), scale standard; 1 where missing"
    )
    assert CategoryTreatment(port).names == ["port = C", "port = S", "port is missing"]
    assert CategoryTreatment(port, impute="most_frequent").names == ["port = C", "port = S"]
    assert CategoryTreatment(port, "index").names == ["port"]
    assert CategoryTreatment(port, "index").words == "index, 2 for other values"


def test_nothing_is_allocated_after_the_first_rows() -> None:
    columns = [numbers("a", [1.0, NAN, 3.0] * 5000), categories("b", ["x", None, "z"] * 5000)]
    treatments = (NumberTreatment(columns[0].column, log=True, clip=(0, 9)), CategoryTreatment(columns[1].column))
    raw, rows = raw_of(columns), np.arange(15_000)
    preparer = Preparer(fit(treatments, raw, rows))
    out = np.zeros((15_000, preparer.width), np.float32)
    preparer.load(raw, rows, out)
    tracemalloc.start()
    try:
        preparer.load(raw, rows, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 15_000 * 4  # buffers of NumPy that do not grow with the rows, but not even one number for each row
