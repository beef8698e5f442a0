"""Nodes that differ between training and evaluation: dropout and batch normalization with its running averages."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import (
    BATCH,
    BatchNorm,
    ChannelDropout,
    Dropout,
    Graph,
    GraphError,
    Identity,
    LayerNorm,
    Linear,
    ParameterLayout,
    Plan,
    Program,
    Purpose,
    RandomKey,
    ReLU,
    SoftmaxCrossEntropy,
    Step,
    build_classifier,
    generator,
    initialize,
    registered,
    update_statistics,
    with_loss,
)
from core.gradcheck.check import check_graph
from tests.core.fixtures.direct import evaluate


def dropped(key, rate=0.5, name="drop", shape=(50, 40), dtype=np.float32, **options):
    """Return value and gradient of dropout on an array of ones, for an upstream gradient of three."""
    graph = Graph()
    graph.input("x", (BATCH, shape[1]))
    graph.add(name, Dropout(rate=rate), "x")
    plan = Plan(Program.compile(graph, (name,), batch=shape[0], dtype=dtype, wrt=("x",), **options))
    plan.inputs["x"].fill(1)
    plan.forward(key)
    plan.backward({name: 3.0})
    return plan.value(name).copy(), plan.gradient("x").copy()


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropout_rate_and_scale(rate):
    value, gradient = dropped(RandomKey(1), rate, shape=(500, 400), dtype=np.float64)
    kept = value != 0
    np.testing.assert_array_equal(value[kept], 1 / (1 - rate))
    np.testing.assert_array_equal(gradient, 3 * value)
    # The tolerance is five standard deviations of the fraction.
    assert np.mean(kept) == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / kept.size) ** 0.5)


def test_dropout_mask_depends_on_key_and_name():
    keys = [
        RandomKey(1),
        RandomKey(2),
        RandomKey(1, epoch=1),
        RandomKey(1, step=1),
        RandomKey(1, shard=1),
        RandomKey(2**63 - 1, 2**64 - 1, 2**64 - 1, 2**16 - 1),
    ]
    masks = {dropped(key)[0].tobytes() for key in keys} | {dropped(RandomKey(1), name="other")[0].tobytes()}
    assert len(masks) == 7
    assert dropped(RandomKey(1, 2, 3, 4))[0].tobytes() == dropped(RandomKey(1, 2, 3, 4))[0].tobytes()
    np.testing.assert_array_equal(dropped(RandomKey(1))[0], dropped(RandomKey(1), dtype=np.float64)[0])


def test_dropout_stream_is_shard_and_hash_of_name():
    # The first 48 bits of the SHA-256 of "drop", from `printf drop | sha256sum`.
    stream = 5 << 48 | 0xD90EE9CCF6BE
    noise = generator(7, Purpose.DROPOUT, epoch=2, step=3, stream=stream).random((50, 40), np.float32)
    np.testing.assert_array_equal(dropped(RandomKey(7, 2, 3, 5))[0] != 0, noise >= 0.5)


def test_dropout_keeps_elements_at_the_threshold():
    value, gradient = evaluate(Dropout(rate=0.25), [1.0, 2.0, 3.0], noise=[0.25, np.nextafter(np.float32(0.25), 0), 0])
    assert value.tolist() == [1 / 0.75, 0, 0]
    assert gradient.tolist() == [1 / 0.75, 0, 0]


def test_channel_dropout_drops_whole_channels():
    x, upstream = np.random.default_rng(0).normal(size=(2, 6, 3, 4, 5))
    noise = np.random.default_rng(1).random((6, 1, 1, 5), np.float32)
    value, gradient = evaluate(ChannelDropout(rate=0.4), x, upstream=upstream, noise=noise)
    for sample, channel in np.ndindex(6, 5):
        factor = 0 if noise[sample, 0, 0, channel] < 0.4 else 1 / 0.6
        np.testing.assert_array_equal(value[sample, ..., channel], factor * x[sample, ..., channel])
        np.testing.assert_array_equal(gradient[sample, ..., channel], factor * upstream[sample, ..., channel])
    assert len(np.unique(value == 0)) == 2


def test_channel_dropout_in_evaluation_and_of_lists():
    assert ChannelDropout().evaluation() == Identity()
    with pytest.raises(ValueError, match=r"channel_dropout needs an input of shape .*, not \(6, 5\); see dropout"):
        ChannelDropout().infer((6, 5))


def test_dropout_is_the_identity_in_evaluation():
    value, gradient = dropped(None, training=False)
    assert (value == 1).all()
    assert (gradient == 3).all()


def test_dropout_without_a_key_raises():
    with pytest.raises(ValueError, match=r"node 'drop' draws random numbers in training: forward needs random="):
        dropped(None)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"shard": 2**16}, {"epoch": -1}, {"step": 2**64}], ids=str)
def test_keys_out_of_range_raise(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} must be in .* not {value}"):
        RandomKey(**{"seed": 0} | wrong)


def normalized(x, axes, epsilon):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)


X = np.random.default_rng(0).normal(2, 3, size=(6, 2, 4))
SCALE, SHIFT = np.array([1.0, -2.0, 0.5, 0.0]), np.array([0.0, 1.0, -1.0, 2.0])


def test_layer_norm_of_rows():
    value, *_ = evaluate(LayerNorm(epsilon=0.1), X, SCALE, SHIFT)
    np.testing.assert_allclose(value, SCALE * normalized(X, -1, 0.1) + SHIFT, rtol=1e-12, atol=1e-13)


def test_batch_norm_of_columns_and_its_statistics():
    value, *_, mean, variance = evaluate(BatchNorm(epsilon=0.1), X, SCALE, SHIFT, np.zeros(4), np.ones(4))
    np.testing.assert_allclose(value, SCALE * normalized(X, (0, 1), 0.1) + SHIFT, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mean, 6 * X.mean(axis=(0, 1)), rtol=1e-13)
    np.testing.assert_allclose(variance, 6 * X.var(axis=(0, 1)), rtol=1e-13)


def test_batch_norm_of_one_row_is_the_shift():
    value, x_gradient, *_ = evaluate(BatchNorm(), X[:1, 0], SCALE, SHIFT, np.zeros(4), np.ones(4))
    np.testing.assert_array_equal(value[0], SHIFT)
    np.testing.assert_array_equal(x_gradient, 0 * X[:1, 0])


def test_batch_norm_in_evaluation():
    mean, variance = np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 0.25, 1.0, 0.0])
    upstream = np.random.default_rng(1).normal(size=X.shape)
    node = BatchNorm(epsilon=0.1).evaluation()
    got = evaluate(node, X, SCALE, SHIFT, mean, variance, upstream=upstream)
    normal = (X - mean) / np.sqrt(variance + 0.1)
    expected = [
        normal * SCALE + SHIFT,
        upstream * SCALE / np.sqrt(variance + 0.1),
        (upstream * normal).sum(axis=(0, 1)),
        upstream.sum(axis=(0, 1)),
        np.zeros(4),
        np.zeros(4),
    ]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def network():
    hidden = [Linear(units=5), BatchNorm(momentum=0.3), ReLU(), Dropout(), Linear(units=4), BatchNorm()]
    return with_loss(build_classifier([*hidden, Linear(units=3)], 6), SoftmaxCrossEntropy())


def shard_plan(graph, layout, parameters, rows, seed=0):
    random = np.random.default_rng(seed)
    plan = Plan(
        Program.compile(graph, ("loss",), batch=rows, dtype=parameters.dtype), layout=layout, parameters=parameters
    )
    plan.inputs["features"][...] = random.normal(size=(rows, 6))
    plan.inputs["labels"][...] = random.integers(0, 3, rows)
    return plan


def test_a_network_passes_the_gradient_check():
    random = np.random.default_rng(0)
    inputs = {"features": random.normal(size=(7, 6)), "labels": random.integers(0, 3, 7)}
    report = check_graph(network(), "loss", inputs, 1)
    report.assert_ok()
    assert not any("mean" in tensor.name for tensor in report.tensors), "running averages have no gradient to check"


def test_statistics_of_shards_are_averaged_over_the_batch():
    graph = network()
    layout = ParameterLayout(graph.parameters())
    parameters = initialize(layout, 0, np.float64)
    before = {name: view.copy() for name, view in layout.views(parameters).items()}
    total, means = np.zeros_like(parameters), []
    for shard, rows in enumerate([4, 7]):
        plan = shard_plan(graph, layout, parameters, rows, shard)
        plan.forward(RandomKey(0, shard=shard))
        plan.backward({"loss": 1.0})
        total += plan.gradients
        hidden = plan.inputs["features"] @ before["0_linear.weight"] + before["0_linear.bias"]
        means.append((rows, hidden.mean(axis=0), hidden.var(axis=0)))
    total /= 11
    update_statistics(np, layout, parameters, total)
    after, slots = layout.views(parameters), layout.views(total)
    for name, index, start in (("1_batch_norm.mean", 1, 0.0), ("1_batch_norm.variance", 2, 1.0)):
        average = sum(each[0] * each[index] for each in means) / 11
        np.testing.assert_allclose(after[name], 0.7 * start + 0.3 * average, rtol=1e-13, atol=1e-15)
    for name, declaration in layout.declarations.items():
        assert declaration.statistic == (name.endswith((".mean", ".variance")))
        assert not (declaration.statistic and slots[name].any()), (
            "slots of statistics must be zero for norms and optimizers"
        )
        if not declaration.statistic:
            np.testing.assert_array_equal(after[name], before[name])
    covered = np.zeros(layout.size, bool)
    for start, stop in layout.statistics:
        covered[start:stop] = True
    assert covered.sum() == 2 * 5 + 2 * 4
    assert not any(covered[start:stop].any() for start, stop in layout.penalized)


LAYOUT = ParameterLayout(network().parameters())


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, LAYOUT.size), max_size=6), seed=st.integers(0, 100))
def test_updating_statistics_by_slices_changes_no_bit(cuts, seed):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(2, LAYOUT.size)).astype(np.float32)
    whole, cut = vectors.copy(), vectors.copy()
    update_statistics(np, LAYOUT, *whole)
    edges = [0, *sorted(cuts), LAYOUT.size]
    for start, stop in pairwise(edges):
        update_statistics(np, LAYOUT, cut[0, start:stop], cut[1, start:stop], start)
    assert whole.tobytes() == cut.tobytes()


def test_evaluation_uses_running_averages_and_is_independent_of_other_rows():
    graph = network()
    layout = ParameterLayout(graph.parameters())
    parameters = initialize(layout, 0, np.float64)
    plan = Plan(
        Program.compile(graph, ("scores",), batch=3, dtype=np.float64, backward=False),
        layout=layout,
        parameters=parameters,
    )
    rows = np.random.default_rng(0).normal(size=(3, 6))
    plan.inputs["features"][...] = rows
    plan.forward()
    first = plan.value("scores")[0].copy()
    plan.inputs["features"][1:] = 100
    plan.forward()
    np.testing.assert_array_equal(plan.value("scores")[0], first)
    layout.views(parameters)["1_batch_norm.mean"][...] = 5
    plan.forward()
    assert not np.array_equal(plan.value("scores")[0], first)


def test_statistics_cannot_be_shared():
    graph = Graph()
    graph.input("x", (BATCH, 3))
    graph.add("a", BatchNorm(), "x")
    graph.add("b", BatchNorm(), "a", share="a")
    with pytest.raises(GraphError, match=r"node 'b' cannot share a\.mean, a running average of one node"):
        graph.parameters()


def test_memory_of_scratch_and_noise_is_reused():
    graph = Graph()
    value = graph.input("x", (BATCH, 64))
    for index in range(8):
        value = graph.add(f"norm{index}", LayerNorm(), value)
        value = graph.add(f"dropout{index}", Dropout(), value)
    tracemalloc.start()
    try:
        Plan(Program.compile(graph, (value,), batch=1000))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Arrays of 1000 x 64 float32: eight normalized values and eight masks, which backward reads, the input, the output
    # and the workspace of one call. Eight separate noise or scratch arrays would exceed the limit.
    assert 18 < held / (1000 * 64 * 4) < 22


@pytest.mark.parametrize("cls", registered("optimizer").values(), ids=lambda cls: cls.type)
def test_optimizers_do_not_change_statistics(cls):
    optimizer = cls()
    random = np.random.default_rng(0)
    parameters = random.normal(size=LAYOUT.size).astype(np.float32)
    before = parameters.copy()
    state = {slot: np.zeros_like(parameters) for slot in optimizer.slots}
    for step in range(1, 4):
        gradients = random.normal(size=LAYOUT.size).astype(np.float32)
        for start, stop in LAYOUT.statistics:
            gradients[start:stop] = 0
        scratch = np.empty_like(parameters)
        penalized = LAYOUT.penalized
        optimizer.update(np, parameters, gradients, state, scratch, Step(0.1, step), penalized)
    changed = parameters != before
    assert changed.any()
    assert not any(changed[start:stop].any() for start, stop in LAYOUT.statistics)
