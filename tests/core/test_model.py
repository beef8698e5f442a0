from threading import Thread

import numpy as np
import pytest

from core import BatchNorm, Linear, Model, ReLU, aligned_zeros, build_classifier, initialize, split_tensors
from core.plan.program import Program

LAYERS = [Linear(units=7), BatchNorm(), ReLU(), Linear(units=3)]
X = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def model(seed=0):
    made = Model(build_classifier(LAYERS, inputs=5))
    made.parameters[:] = initialize(made.layout, seed)
    # Training would have changed this running average.
    made.tensors["1_batch_norm.mean"][:] = np.linspace(-1, 1, 7)
    return made


def tensors_of(made):
    return {name: tensor.copy() for name, tensor in made.tensors.items()}


def scores(made, rows):
    plan = made.plan(len(rows))
    plan.inputs["features"][...] = rows
    plan.forward()
    return plan.value("scores").copy()


def test_plans_compute_the_forward_pass_in_evaluation_mode():
    made = model()
    t = made.tensors
    h = X @ t["0_linear.weight"] + t["0_linear.bias"]
    h = (h - t["1_batch_norm.mean"]) / np.sqrt(t["1_batch_norm.variance"] + LAYERS[1].epsilon)
    h = np.maximum(h * t["1_batch_norm.scale"] + t["1_batch_norm.shift"], 0)
    expected = h @ t["scores.weight"] + t["scores.bias"]
    np.testing.assert_allclose(scores(made, X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores(made, X[:2]), expected[:2], rtol=1e-5, atol=1e-6)
    made.tensors["scores.weight"][:] = 0
    made.tensors["scores.bias"][:] = [1, 2, 3]
    assert scores(made, X).tolist() == [[1, 2, 3]] * 6


def test_plans_are_cached_by_number_of_rows(monkeypatch):
    compiled = []

    def compile_(cls, *arguments, batch, **options):
        compiled.append(batch)
        return whole(cls, *arguments, batch=batch, **options)

    whole = Program.compile.__func__
    monkeypatch.setattr(Program, "compile", classmethod(compile_))
    made = model()
    assert made.plan(4) is made.plan(4)
    assert made.plan(4) is not made.plan(5)
    other = made.with_own_plans()
    assert other.plan(4) is not made.plan(4)
    assert other.plan(6).program is made.plan(6).program
    assert sorted(compiled) == [4, 5, 6]


def test_plans_of_a_model_share_memory():
    made, other = model(), model().with_own_plans()
    expected = {rows: scores(model(), X[:rows]).tolist() for rows in (2, 6)}
    for rows in (6, 2, 6, 2):
        assert scores(made, X[:rows]).tolist() == expected[rows]
    # The arrays of both begin in the one block, which is as large as the larger one needs.
    begin, end = np.lib.array_utils.byte_bounds(made._memory)
    assert end - begin == made.plan(6).program.nbytes
    for each, inside in ((made.plan(6), True), (made.plan(2), True), (other.plan(6), False)):
        for array in (each.inputs["features"], each.value("scores")):
            assert (begin <= np.lib.array_utils.byte_bounds(array)[0] < end) is inside


def test_models_with_own_plans_share_only_parameters():
    made = model()
    other = made.with_own_plans()
    expected = scores(made, X)
    assert scores(other, -X).tolist() != expected.tolist()
    assert made.plan(6).value("scores").tolist() == expected.tolist()
    other.load(tensors_of(model(seed=1)))
    assert scores(made, X).tolist() == scores(model(seed=1), X).tolist()


def test_threads_with_own_models_get_their_own_scores():
    made = model()
    inputs = [np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32) for seed in range(4)]
    expected = [scores(made, rows).tobytes() for rows in inputs]
    found = [set() for _ in inputs]

    def predict(rows, seen):
        own = made.with_own_plans()
        for _ in range(200):
            seen.add(scores(own, rows).tobytes())

    threads = [Thread(target=predict, args=each) for each in zip(inputs, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{each} for each in expected]


def test_parameters_are_loaded_by_name():
    made, other = model(), Model(build_classifier(LAYERS, inputs=5))
    assert not other.parameters.any()
    # The order does not matter.
    other.load(dict(reversed(tensors_of(made).items())))
    assert other.parameters.tobytes() == made.parameters.tobytes()


def test_a_given_vector_is_shared_and_sets_the_dtype():
    vector = aligned_zeros((model().layout.size,), np.float64)
    made = Model(build_classifier(LAYERS, inputs=5), vector)
    assert made.parameters is vector
    assert made.plan(2).inputs["features"].dtype == np.float64
    made.tensors["scores.bias"][:] = 7
    assert np.count_nonzero(vector) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0_linear.bias": None}, "0_linear.bias is missing"),
        ({"1_linear.bias": np.zeros(7, np.float32)}, "1_linear.bias is unknown"),
        ({"0_linear.bias": np.zeros(8, np.float32)}, r"0_linear.bias is float32 \(8,\) and not float32 \(7,\)"),
        ({"0_linear.bias": np.zeros((7, 1), np.float32)}, r"0_linear.bias is float32 \(7, 1\)"),
        ({"scores.bias": np.zeros(3)}, r"scores.bias is float64 \(3,\) and not float32 \(3,\)"),
        ({"0_linear.bias": None, "a": np.zeros(3)}, "a is unknown, 0_linear.bias is missing$"),
    ],
)
def test_invalid_tensors_raise_with_their_names_and_change_nothing(changes, message):
    made, other = model(), model(seed=1)
    before = made.parameters.copy()
    tensors = {name: tensor for name, tensor in (tensors_of(other) | changes).items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        made.load(tensors)
    assert made.parameters.tobytes() == before.tobytes()


def test_preprocessing_tensors_are_not_parameters():
    mean, weight = np.zeros(5), np.ones(3)
    assert split_tensors({"inputs.mean": mean, "inputs_.weight": weight}) == (
        {"inputs_.weight": weight},
        {"mean": mean},
    )
    assert split_tensors({}) == ({}, {})
