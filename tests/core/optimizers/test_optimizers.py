from itertools import pairwise
from math import sqrt
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import (
    L2,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Cosine,
    Linear,
    Lion,
    ParameterLayout,
    Plan,
    Program,
    RMSProp,
    Sigmoid,
    SoftmaxCrossEntropy,
    Step,
    Warmup,
    build_classifier,
    from_spec,
    initialize,
    registered,
    to_spec,
    with_loss,
)
from core.arrays import aligned_empty
from tests.core.fixtures.memory import peak_growth

OPTIMIZERS = [
    SGD(lr=0.1),
    SGD(lr=0.1, momentum=0.9),
    SGD(lr=0.37, momentum=0.5, schedule=Cosine()),
    SGD(lr=0.1, momentum=0.9, nesterov=True),
    Adam(),
    Adam(lr=0.05, beta1=0.0, beta2=0.5, epsilon=0.1),
    Adam(lr=0.05, beta2=0.0, schedule=Warmup(steps=3, then=Cosine())),
    AdamW(lr=0.02, weight_decay=0.1),
    RMSProp(),
    RMSProp(lr=0.05, decay=0.5, epsilon=0.01),
    Adagrad(),
    Adagrad(lr=0.5, epsilon=0.1),
    Lion(lr=0.01),
    Lion(lr=0.05, beta1=0.6, beta2=0.8, weight_decay=0.3),
    Lion(lr=0.02, beta1=0.0, beta2=0.5),
]
TOTAL = 7
SIZE = 4321

each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_examples_cover_every_optimizer():
    assert {type(optimizer) for optimizer in OPTIMIZERS} == set(registered("optimizer").values())


def within(ranges, piece):
    """Return the parts of the ranges inside a piece, relative to its start."""
    return [
        (max(start, piece.start) - piece.start, min(stop, piece.stop) - piece.start)
        for start, stop in ranges
        if max(start, piece.start) < min(stop, piece.stop)
    ]


class Trajectory:
    """Optimizer steps on given gradients, with the vectors divided into pieces."""

    def __init__(self, optimizer, parameters, penalized=()):
        self.optimizer, self.penalized, self.done = optimizer, penalized, 0
        self.parameters = parameters.copy()
        self.state = {name: np.zeros_like(parameters) for name in optimizer.slots}
        self.scratch = np.full_like(parameters, np.nan)

    def step(self, gradients, pieces=None, total=TOTAL):
        rate = self.optimizer.learning_rate(self.done, total, 10)
        self.done += 1
        for piece in pieces or [slice(0, self.parameters.size)]:
            self.optimizer.update(
                np,
                self.parameters[piece],
                gradients[piece],
                {name: slot[piece] for name, slot in self.state.items()},
                self.scratch,
                Step(rate, self.done),
                within(self.penalized, piece),
            )

    @property
    def vectors(self):
        return [self.parameters, *self.state.values()]


@patch("core.arrays.BLOCK", 1000)  # several blocks even in a short vector
def walk(optimizer, dtype, pieces=None, size=SIZE, penalized=(), seed=0):
    """Take a few steps and return all vectors."""
    random = np.random.default_rng(seed)
    taken = Trajectory(optimizer, random.normal(size=size).astype(dtype), penalized)
    for _ in range(3):
        taken.step(random.normal(size=size).astype(dtype), pieces)
    return taken.vectors


def same_bits(vectors, others):
    return all(one.tobytes() == other.tobytes() for one, other in zip(vectors, others, strict=True))


edges = st.lists(st.integers(0, SIZE), max_size=8).map(lambda cuts: [0, *sorted(cuts), SIZE])
pieces = edges.map(lambda cuts: [slice(start, stop) for start, stop in pairwise(cuts)])
ranges = edges.map(lambda cuts: list(pairwise(cuts))[::2])


@each_optimizer
@each_dtype
@settings(max_examples=15, deadline=None)
@given(pieces=pieces, penalized=ranges)
def test_dividing_the_vectors_changes_no_bit(optimizer, dtype, pieces, penalized):
    whole = walk(optimizer, dtype, penalized=penalized)
    assert same_bits(walk(optimizer, dtype, pieces, penalized=penalized), whole)


class Averaging(SGD):
    """Incorrect optimizer: its result depends on how the vectors are divided."""

    def update(self, xp, parameters, gradients, *others, **options):
        gradients = gradients / np.abs(gradients).mean() if gradients.size else gradients
        super().update(xp, parameters, gradients, *others, **options)


def test_an_optimizer_that_depends_on_the_slices_is_detected():
    pieces = [slice(0, 2000), slice(2000, SIZE)]
    assert not same_bits(walk(Averaging(), np.float64, pieces), walk(Averaging(), np.float64))


@each_optimizer
@pytest.mark.parametrize("shift", range(1, 20, 3))
def test_alignment_changes_no_bit(optimizer, shift):
    random = np.random.default_rng(shift)
    values = random.normal(size=(2 + len(optimizer.slots), 1000)).astype(np.float32)
    results = []
    for start in (0, shift):
        vectors = [aligned_empty((1000 + start,), np.float32)[start:] for _ in values]
        for vector, value in zip(vectors, values, strict=True):
            np.abs(value, out=vector)
        parameters, gradients, *slots = vectors
        state = dict(zip(optimizer.slots, slots, strict=True))
        optimizer.update(np, parameters, gradients, state, np.empty(1000, np.float32), Step(0.1, 5))
        results.append([parameters, *slots])
    assert same_bits(*results)


def textbook(optimizer, w, gradients):
    """Return the parameters after steps on the given gradients, computed per element with the published formulas."""
    m, v = [0.0] * len(w), [0.0] * len(w)
    for t, gradient in enumerate(gradients, start=1):
        lr = optimizer.learning_rate(t - 1, TOTAL, 10)
        for i, g in enumerate(gradient):
            match optimizer:
                case SGD(momentum=mu):
                    v[i] = mu * v[i] + g
                    w[i] -= lr * (g + mu * v[i] if optimizer.nesterov else v[i])
                case Adam(beta1=beta1, beta2=beta2, epsilon=epsilon):
                    if isinstance(optimizer, AdamW):
                        w[i] -= lr * optimizer.weight_decay * w[i]
                    m[i] = beta1 * m[i] + (1 - beta1) * g
                    v[i] = beta2 * v[i] + (1 - beta2) * g * g
                    w[i] -= lr * (m[i] / (1 - beta1**t)) / (sqrt(v[i] / (1 - beta2**t)) + epsilon)
                case RMSProp(decay=decay, epsilon=epsilon):
                    v[i] = decay * v[i] + (1 - decay) * g * g
                    w[i] -= lr * g / (sqrt(v[i]) + epsilon)
                case Adagrad(epsilon=epsilon):
                    v[i] += g * g
                    w[i] -= lr * g / (sqrt(v[i]) + epsilon)
                case Lion(beta1=beta1, beta2=beta2, weight_decay=decay):
                    w[i] -= lr * (np.sign(beta1 * m[i] + (1 - beta1) * g) + decay * w[i])
                    m[i] = beta2 * m[i] + (1 - beta2) * g
    return w


@each_optimizer
def test_steps_against_the_published_formulas(optimizer):
    size = 50
    random = np.random.default_rng(0)
    parameters, gradients = random.normal(size=size), random.normal(size=(TOTAL, size))
    taken = Trajectory(optimizer, parameters, penalized=[(0, size)])
    for gradient in gradients:
        taken.step(gradient)
    expected = textbook(optimizer, parameters.tolist(), gradients.tolist())
    np.testing.assert_allclose(taken.parameters, expected, rtol=1e-12, atol=1e-14)


@each_optimizer
def test_float32_is_kept_and_agrees_with_float64(optimizer):
    for one, other in zip(walk(optimizer, np.float32), walk(optimizer, np.float64), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@each_optimizer
@each_dtype
def test_zero_gradients_do_not_change_parameters(optimizer, dtype):
    """Examples are padding and the weights of features that are always 0."""
    parameters = np.array([0, -0.0, 3, -1e-20], dtype)
    taken = Trajectory(optimizer, parameters)
    for _ in range(3):
        taken.step(np.zeros(4, dtype))
    np.testing.assert_array_equal(taken.parameters, parameters)
    assert not any(slot.any() for slot in taken.state.values())


@each_optimizer
def test_no_parameters(optimizer):
    taken = Trajectory(optimizer, np.zeros(0))
    taken.step(np.zeros(0))
    assert taken.parameters.size == 0


@each_optimizer
def test_gradients_can_be_read_only_and_strided(optimizer):
    random = np.random.default_rng(0)
    parameters, gradients = random.normal(size=20), random.normal(size=20)
    plain = Trajectory(optimizer, parameters)
    plain.step(gradients)
    spread = np.full(40, np.nan)
    spread[::2] = gradients
    spread.flags.writeable = False
    strided = Trajectory(optimizer, parameters)
    strided.step(spread[::2])
    assert same_bits(strided.vectors, plain.vectors)


@each_optimizer
def test_a_step_allocates_no_arrays(optimizer):
    size = 200_000
    taken = Trajectory(optimizer, np.ones(size, np.float32), penalized=[(0, size)])
    gradients = np.ones(size, np.float32)
    assert peak_growth(lambda: taken.step(gradients)) < 10_000


@each_optimizer
def test_resuming_from_a_snapshot_changes_no_bit(optimizer):
    random = np.random.default_rng(0)
    gradients = random.normal(size=(TOTAL, 100)).astype(np.float32)
    straight = Trajectory(optimizer, random.normal(size=100).astype(np.float32))
    for gradient in gradients[:3]:
        straight.step(gradient)
    resumed = Trajectory(from_spec("optimizer", to_spec(optimizer)), straight.parameters)
    resumed.done = straight.done
    assert resumed.state.keys() == straight.state.keys()
    for name, slot in straight.state.items():
        resumed.state[name][...] = slot
    for gradient in gradients[3:]:
        straight.step(gradient)
        resumed.step(gradient)
    assert same_bits(resumed.vectors, straight.vectors)


@each_optimizer
@pytest.mark.parametrize("sizes", [(12,), (1, 11), (4, 4, 4), (1,) * 12], ids=str)
def test_micro_batches_equal_one_batch(optimizer, sizes):
    """Steps on the sum of micro-batch gradients equal steps on the gradient of the whole batch."""
    random = np.random.default_rng(0)
    graph = with_loss(build_classifier([Linear(units=7), Sigmoid(), Linear(units=3)], 5), SoftmaxCrossEntropy())
    layout = ParameterLayout(graph.parameters())
    features, labels = random.normal(size=(12, 5)), random.integers(0, 3, 12)
    start = initialize(layout, seed=1, dtype=np.float64)
    results = []
    for cut in [(12,), sizes]:
        taken = Trajectory(optimizer, start, layout.penalized)
        plans = [
            Plan(
                Program.compile(graph, ("loss",), batch=size, dtype=np.float64),
                layout=layout,
                parameters=taken.parameters,
            )
            for size in cut
        ]
        for _ in range(4):
            total, row = np.zeros(layout.size), 0
            for size, plan in zip(cut, plans, strict=True):
                plan.inputs["features"][...] = features[row : row + size]
                plan.inputs["labels"][...] = labels[row : row + size]
                plan.forward()
                plan.backward({"loss": 1 / 12})
                total += plan.gradients
                row += size
            taken.step(total)
        results.append(taken.parameters)
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9, atol=1e-11)
    assert np.abs(results[0] - start).max() > 1e-3


def test_only_momentum_needs_a_slot():
    assert SGD().slots == ()
    assert SGD(momentum=0.9).slots == ("velocity",)


def test_first_step_of_adam_has_the_size_of_the_learning_rate():
    gradients = np.array([1e-3, -1.0, 1e3])
    taken = Trajectory(Adam(lr=0.25, epsilon=1e-30), np.zeros(3))
    taken.step(gradients)
    np.testing.assert_allclose(taken.parameters, -0.25 * np.sign(gradients), rtol=1e-13)


@pytest.mark.parametrize("optimizer", [AdamW(lr=0.5, weight_decay=0.1), Lion(lr=0.5, weight_decay=0.1)], ids=str)
def test_decoupled_decay_applies_only_to_penalized_parameters(optimizer):
    taken = Trajectory(optimizer, np.ones(8), penalized=[(1, 3), (6, 7)])
    taken.step(np.zeros(8))
    np.testing.assert_allclose(taken.parameters, [1, 0.95, 0.95, 1, 1, 1, 0.95, 1], rtol=1e-15)


@pytest.mark.parametrize("optimizer", [SGD(lr=0.1, momentum=0.9), Adam(lr=0.1)], ids=str)
def test_coupled_decay_is_the_gradient_of_the_l2_penalty(optimizer):
    """It enters the momentum and the mean square, as in PyTorch with `weight_decay` = 2 l2."""
    start, gradients = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    taken = Trajectory(optimizer, start, penalized=[(0, 3)])
    w, v, m, s = start.copy(), 0.0, 0.0, 0.0
    for t in range(1, 4):
        g = 0.5 * w
        v = 0.9 * v + g
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        w -= 0.1 * v if isinstance(optimizer, SGD) else 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        gradients[:] = 0
        L2(0.25).add_gradient(np, taken.parameters, gradients, np.empty(3))
        taken.step(gradients)
    np.testing.assert_allclose(taken.parameters, w, rtol=1e-12)


def test_lion_steps_by_the_sign_of_the_interpolation():
    """Computed by hand: m = 0.1 (8, 8, 0), so 0.9 m + 0.1 g of the second step is (-0.28, 0.82, 0.1)."""
    taken = Trajectory(Lion(lr=0.5, beta2=0.9), np.zeros(3))
    taken.step(np.array([8.0, 8.0, 0.0]))
    np.testing.assert_array_equal(taken.parameters, [-0.5, -0.5, 0])
    taken.step(np.array([-10.0, 1.0, 1.0]))
    np.testing.assert_array_equal(taken.parameters, [0, -1, -0.5])


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match=r"sgd\.nesterov needs sgd\.momentum greater than 0"):
        SGD(lr=0.1, nesterov=True)


def test_learning_rate_is_multiplied_by_the_schedule():
    assert SGD(lr=0.25).learning_rate(3, 10, 5) == 0.25
    assert SGD(lr=0.25, schedule=Cosine()).learning_rate(5, 10, 5) == pytest.approx(0.125, rel=1e-15)


PEERS = {
    "sgd": (SGD(lr=0.1), "SGD", {"lr": 0.1}),
    "momentum": (SGD(lr=0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (SGD(lr=0.1, momentum=0.9, nesterov=True), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (Adam(), "Adam", {}),
    "adam with other hyperparameters": (
        Adam(lr=0.01, beta1=0.7, beta2=0.9, epsilon=1e-3),
        "Adam",
        {"lr": 0.01, "betas": (0.7, 0.9), "eps": 1e-3},
    ),
    "adamw": (AdamW(), "AdamW", {}),
    "adamw with larger decay": (AdamW(lr=0.01, weight_decay=0.5), "AdamW", {"lr": 0.01, "weight_decay": 0.5}),
    "rmsprop": (RMSProp(), "RMSprop", {}),
    "rmsprop with other hyperparameters": (RMSProp(lr=0.02, decay=0.9), "RMSprop", {"lr": 0.02, "alpha": 0.9}),
    "adagrad": (Adagrad(), "Adagrad", {}),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_hundred_steps_agree_with_pytorch(name):
    """The defaults are those of PyTorch, except for the learning rate of SGD."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gradfleet[bench]'")
    optimizer, peer, options = PEERS[name]
    random = np.random.default_rng(0)
    start, phases = random.normal(size=200), random.normal(size=(100, 200))
    taken = Trajectory(optimizer, start, penalized=[(0, 200)])
    weights = torch.tensor(start, requires_grad=True)
    other = getattr(torch.optim, peer)([weights], **options)
    for phase in phases:
        # A nonlinear gradient, but not a chaotic system, which would amplify rounding errors.
        taken.step(taken.parameters + np.sin(taken.parameters) + phase)
        weights.grad = weights.detach() + torch.sin(weights.detach()) + torch.from_numpy(phase)
        other.step()
    np.testing.assert_allclose(taken.parameters, weights.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_peers_cover_every_optimizer():
    """PyTorch has no Lion."""
    assert {type(optimizer) for optimizer, _, _ in PEERS.values()} == set(registered("optimizer").values()) - {Lion}
