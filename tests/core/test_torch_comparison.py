"""Compares values, gradients and training runs with PyTorch, in float64."""

import numpy as np
import pytest

from core import (
    ELU,
    GELU,
    LRN,
    SGD,
    Abs,
    AbsoluteError,
    Adagrad,
    Adam,
    AdamW,
    Add,
    AveragePool1d,
    AveragePool2d,
    BatchNorm,
    Bias,
    BinaryMargin,
    ChannelDropout,
    Concat,
    Conv1d,
    Conv2d,
    Conv2dTranspose,
    Crop,
    Dropout,
    Embedding,
    Exp,
    Flatten,
    Gain,
    HardTanh,
    Hinge,
    Huber,
    Identity,
    LayerNorm,
    LeakyReLU,
    Linear,
    Lion,
    Log,
    LogSigmoid,
    LogSoftmax,
    MatMul,
    Max,
    Maximum,
    Maxout,
    MaxPool1d,
    MaxPool2d,
    Mean,
    MeanSquaredError,
    Min,
    Multiply,
    OneHot,
    Plan,
    Power,
    PReLU,
    Program,
    Reciprocal,
    ReLU,
    ReLU6,
    Reshape,
    RMSProp,
    RReLU,
    Scale,
    Select,
    Shift,
    Sigmoid,
    SigmoidCrossEntropy,
    Slice,
    SmoothL1,
    SoftMargin,
    Softmax,
    SoftmaxCrossEntropy,
    Softplus,
    Softshrink,
    Softsign,
    Sqrt,
    Square,
    SquaredError,
    Step,
    Subtract,
    Sum,
    Swish,
    Tanh,
    Threshold,
    Upsample,
    WeightedSum,
    ZeroPad,
    build_classifier,
    initialize,
    registered,
    with_loss,
)
from tests.core.fixtures.direct import evaluate

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gradfleet[bench]'")
F = torch.nn.functional


def one_hot(labels, classes):
    return F.one_hot(labels, classes).to(torch.float64)


def signs(labels):
    return 2 * labels.to(torch.float64) - 1


def rows(values):
    """Sum over all elements of each sample."""
    return values.flatten(1).sum(1)


# A layer with one input, and the PyTorch function of the input and the layer's parameters.
LAYERS = [
    (Identity(), lambda x: 1 * x),
    (ReLU(), F.relu),
    (ReLU6(), F.relu6),
    (Threshold(threshold=0.5, value=-2), lambda x: F.threshold(x, 0.5, -2)),
    (LeakyReLU(), lambda x: F.leaky_relu(x, 0.1)),
    (PReLU(), F.prelu),
    (ELU(), F.elu),
    (ELU(alpha=2), lambda x: F.elu(x, 2.0)),
    (Tanh(), torch.tanh),
    (HardTanh(), F.hardtanh),
    (Sigmoid(), torch.sigmoid),
    (LogSigmoid(), F.logsigmoid),
    (Softplus(), lambda x: F.softplus(x, threshold=1e9)),
    (Softsign(), F.softsign),
    (Softshrink(), F.softshrink),
    (Swish(), F.silu),
    (Swish(beta=2), lambda x: x * torch.sigmoid(2 * x)),
    (GELU(), lambda x: F.gelu(x, approximate="tanh")),
    (Softmax(), lambda x: F.softmax(x, -1)),
    (LogSoftmax(), lambda x: F.log_softmax(x, -1)),
    (Maxout(pieces=3), lambda x: x.unflatten(-1, (-1, 3)).amax(-1)),
    (Bias(), torch.add),
    (Bias(per="layer"), torch.add),
    (Gain(), torch.mul),
    (Gain(per="layer"), torch.mul),
    (LayerNorm(), lambda x, scale, shift: F.layer_norm(x, x.shape[-1:], scale, shift)),
    (
        BatchNorm(),
        lambda x, scale, shift, *_: F.batch_norm(x, None, None, scale, shift, training=True),
    ),
    (Linear(units=4), lambda x, weight, bias: F.linear(x, weight.T, bias)),
    (Linear(units=4, bias=None), lambda x, weight: F.linear(x, weight.T)),
    (Flatten(), lambda x: x.flatten(1)),
    (Reshape(shape=(2, 3)), lambda x: x.unflatten(-1, (2, 3))),
    (Slice(start=1, stop=4), lambda x: x[:, 1:4]),
    (Select(index=2), lambda x: x[:, 2]),
    (Max(), lambda x: x.amax(1)),
    (Min(), lambda x: x.amin(1)),
    (Mean(), lambda x: x.mean(1)),
    (Sum(), lambda x: x.sum(1)),
    (Abs(), torch.abs),
    (Exp(), torch.exp),
    (Square(), torch.square),
    (Power(exponent=3), lambda x: x**3),
    (Scale(factor=-2), lambda x: -2 * x),
    (Shift(offset=3), lambda x: x + 3),
    (Log(), torch.log),
    (Sqrt(), torch.sqrt),
    (Reciprocal(), lambda x: 1 / x),
]
POSITIVE = (Log, Sqrt, Reciprocal)


def channels_last(function):
    """Return a PyTorch function of channels-first images as one of channels-last images."""

    def call(x, *parameters):
        return function(x.movedim(-1, 1), *parameters).movedim(1, -1)

    return call


def conv2d(x, weight, bias=None, **options):
    return F.conv2d(x, weight.permute(3, 2, 0, 1), bias, **options)


def conv_transpose2d(x, weight, bias=None, **options):
    return F.conv_transpose2d(x, weight.permute(3, 2, 0, 1), bias, **options)


# A layer of images, which the layers above may be too, and the PyTorch function of channels-first images.
OF_IMAGES = [
    (node, channels_last(peer))
    for node, peer in [
        (Conv2d(filters=2, kernel=3), conv2d),
        (
            Conv2d(filters=6, kernel=(3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=3, bias=None),
            lambda x, weight: conv2d(x, weight, stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=3),
        ),
        (Conv2d(filters=2, kernel=(5, 3), padding="same"), lambda *inputs: conv2d(*inputs, padding="same")),
        (Conv2dTranspose(filters=2, kernel=3), conv_transpose2d),
        (
            Conv2dTranspose(
                filters=6, kernel=(3, 2), stride=(1, 3), padding=(2, 1), dilation=(2, 1), groups=3, bias=None
            ),
            lambda x, w: conv_transpose2d(x, w, stride=(1, 3), padding=(2, 1), dilation=(2, 1), groups=3),
        ),
        (
            Conv2dTranspose(filters=2, kernel=4, stride=2, padding="same"),
            lambda *inputs: conv_transpose2d(*inputs, stride=2, padding=1),
        ),
        (MaxPool2d(kernel=2), lambda x: F.max_pool2d(x, 2)),
        (
            MaxPool2d(kernel=3, stride=2, padding=1, ceil=True),
            lambda x: F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
        ),
        (AveragePool2d(kernel=(2, 3), stride=1), lambda x: F.avg_pool2d(x, (2, 3), stride=1)),
        (
            AveragePool2d(kernel=3, stride=2, padding=1, ceil=True),
            lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
        ),
        (ZeroPad(padding=(1, 2, 0, 3), channels=(0, 2)), lambda x: F.pad(x, (0, 3, 1, 2, 0, 2))),
        (Crop(margin=(1, 2)), lambda x: F.pad(x, (-2, -2, -1, -1))),
        (Upsample(factor=(2, 3)), lambda x: F.interpolate(x, scale_factor=(2, 3))),
        (
            Upsample(factor=(2, 3), mode="linear"),
            lambda x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear", align_corners=False),
        ),
        (LRN(size=3, alpha=0.5), lambda x: F.local_response_norm(x, 3, alpha=0.5)),
        (LRN(beta=1.5, k=2), lambda x: F.local_response_norm(x, 5, beta=1.5, k=2)),
        (
            LRN(size=3, alpha=0.5, region="within_channel"),
            lambda x: x * (1 + 0.5 * F.avg_pool2d(x**2, 3, stride=1, padding=1)) ** -0.75,
        ),
        (
            BatchNorm(),
            lambda x, scale, shift, *_: F.batch_norm(x, None, None, scale, shift, training=True),
        ),
        (PReLU(), F.prelu),
        (Gain(), lambda x, gain: x * gain[:, None, None]),
        (Bias(per="feature"), lambda x, bias: x + bias[:, None, None]),
        (Softmax(), lambda x: F.softmax(x, 1)),
        (LogSoftmax(), lambda x: F.log_softmax(x, 1)),
    ]
]
# Likewise for sequences.
OF_SEQUENCES = [
    (node, channels_last(peer))
    for node, peer in [
        (Conv1d(filters=2, kernel=3, stride=2), lambda x, w, b: F.conv1d(x, w.permute(2, 1, 0), b, stride=2)),
        (
            Conv1d(filters=6, kernel=3, padding="same", dilation=2, groups=3, bias=None),
            lambda x, w: F.conv1d(x, w.permute(2, 1, 0), padding="same", dilation=2, groups=3),
        ),
        (MaxPool1d(kernel=2), lambda x: F.max_pool1d(x, 2)),
        (
            MaxPool1d(kernel=3, stride=2, padding=1, ceil=True),
            lambda x: F.max_pool1d(x, 3, stride=2, padding=1, ceil_mode=True),
        ),
        (
            AveragePool1d(kernel=3, stride=2, padding=1, ceil=True),
            lambda x: F.avg_pool1d(x, 3, stride=2, padding=1, ceil_mode=True),
        ),
        (ZeroPad(padding=(2, 1)), lambda x: F.pad(x, (2, 1))),
        (Crop(margin=(2, 1)), lambda x: F.pad(x, (-2, -1))),
        (Upsample(factor=2), lambda x: F.interpolate(x, scale_factor=2)),
        (
            Upsample(factor=3, mode="linear"),
            lambda x: F.interpolate(x, scale_factor=3, mode="linear", align_corners=False),
        ),
    ]
]
BINARY = [
    (Add(), lambda x, y: x + y),
    (Subtract(), torch.sub),
    (Multiply(), torch.mul),
    (Maximum(), torch.maximum),
    (Concat(), lambda x, y: torch.cat([x, y], -1)),
]
# A loss of scores (batch, classes) and labels, and the PyTorch loss per sample.
LABEL_LOSSES = [
    (SoftmaxCrossEntropy(), lambda s, y: F.cross_entropy(s, y, reduction="none")),
    (
        SoftmaxCrossEntropy(label_smoothing=0.2),
        lambda s, y: F.cross_entropy(s, y, reduction="none", label_smoothing=0.2),
    ),
    (
        SoftmaxCrossEntropy(class_weights=(1, 2, 0.5, 3)),
        lambda s, y: F.cross_entropy(s, y, torch.tensor([1, 2, 0.5, 3], dtype=s.dtype), reduction="none"),
    ),
    (Hinge(), lambda s, y: s.shape[1] * F.multi_margin_loss(s, y, reduction="none")),
    (
        Hinge(squared=True, margin=2),
        lambda s, y: s.shape[1] * F.multi_margin_loss(s, y, p=2, margin=2, reduction="none"),
    ),
    (
        Hinge(form="one_vs_all"),
        lambda s, y: rows(F.hinge_embedding_loss(s * (2 * one_hot(y, 4) - 1), -torch.ones_like(s), reduction="none")),
    ),
    (
        SigmoidCrossEntropy(),
        lambda s, y: rows(F.binary_cross_entropy_with_logits(s, one_hot(y, s.shape[1]), reduction="none")),
    ),
    (
        WeightedSum(losses=(Hinge(), SoftmaxCrossEntropy()), weights=(0.5, 2)),
        lambda s, y: (
            0.5 * s.shape[1] * F.multi_margin_loss(s, y, reduction="none") + 2 * F.cross_entropy(s, y, reduction="none")
        ),
    ),
]
# A loss of scores (batch,) and labels 0 and 1.
BINARY_LOSSES = [
    (
        SigmoidCrossEntropy(),
        lambda s, y: F.binary_cross_entropy_with_logits(s, y.to(s.dtype), reduction="none"),
    ),
    (SoftMargin(), lambda s, y: F.soft_margin_loss(s, signs(y), reduction="none")),
    (BinaryMargin(), lambda s, y: F.hinge_embedding_loss(s * signs(y), -torch.ones_like(s), reduction="none")),
]
VALUE_LOSSES = [
    (SquaredError(), lambda x, t: rows(F.mse_loss(x, t, reduction="none"))),
    (MeanSquaredError(), lambda x, t: F.mse_loss(x, t, reduction="none").flatten(1).mean(1)),
    (AbsoluteError(), lambda x, t: rows(F.l1_loss(x, t, reduction="none"))),
    (Huber(delta=0.7), lambda x, t: rows(F.huber_loss(x, t, reduction="none", delta=0.7))),
    (SmoothL1(beta=0.7), lambda x, t: rows(F.smooth_l1_loss(x, t, reduction="none", beta=0.7))),
]


def ids(parameter):
    return "" if callable(parameter) else str(parameter)


def agree(node, peer, *inputs):
    """Compare value and gradients. Inputs that the PyTorch function does not use have no gradient to compare."""
    tensors = [torch.tensor(each, requires_grad=each.dtype.kind == "f") for each in inputs]
    other = peer(*tensors)
    upstream = np.random.default_rng(1).normal(size=other.shape)
    value, *gradients = evaluate(node, *inputs, upstream=upstream)
    floats = [each for each in tensors if each.requires_grad]
    others = torch.autograd.grad(other, floats, torch.from_numpy(upstream), allow_unused=True)
    pairs = [(value, other.detach())]
    pairs += [(one, two) for one, two in zip(gradients, others, strict=True) if two is not None]
    for one, two in pairs:
        np.testing.assert_allclose(one, two.numpy(), rtol=1e-12, atol=1e-12 * np.abs(one).max())


def parameters_of(node, x, random):
    return [random.normal(size=each.shape) for each in node.parameters(x.shape)]


@pytest.mark.parametrize(("node", "peer"), LAYERS, ids=ids)
def test_layers(node, peer):
    random = np.random.default_rng(0)
    x = 3 * random.normal(size=(20, 6))
    x = np.abs(x) + 0.1 if isinstance(node, POSITIVE) else x
    agree(node, peer, x, *parameters_of(node, x, random))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("node", "peer"), OF_IMAGES, ids=ids)
def test_layers_of_images(node, peer, tied):
    random = np.random.default_rng(0)
    x = random.integers(-1, 2, (3, 5, 6, 3)).astype(float) if tied else random.normal(size=(3, 5, 6, 3))
    agree(node, peer, x, *parameters_of(node, x, random))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("node", "peer"), OF_SEQUENCES, ids=ids)
def test_layers_of_sequences(node, peer, tied):
    random = np.random.default_rng(0)
    x = random.integers(-1, 2, (3, 8, 3)).astype(float) if tied else random.normal(size=(3, 8, 3))
    agree(node, peer, x, *parameters_of(node, x, random))


AT_KINKS = [(node, peer) for node, peer in LAYERS if node.branches(np, [np.zeros((1, 6))]) is not None]


@pytest.mark.parametrize(("node", "peer"), AT_KINKS, ids=ids)
def test_kinks_and_ties(node, peer):
    x = np.array([[-1.0, -0.5, 0.0, 0.5, 1.0, 6.0], [-0.0, 0.0, 0.0, 6.0, 6.0, 6.0], [0.0, -6.0, -1.0, 2.0, 2.0, 1.0]])
    agree(node, peer, x, *parameters_of(node, x, np.random.default_rng(0)))


@pytest.mark.parametrize(("node", "peer"), BINARY, ids=ids)
def test_nodes_of_two_inputs(node, peer):
    agree(node, peer, *np.random.default_rng(0).normal(size=(2, 5, 4)))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_matmul(first, second):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 3, 2) if first else (5, 2, 3)), random.normal(size=(5, 4, 3) if second else (5, 3, 4))
    agree(
        MatMul(transpose_first=first, transpose_second=second),
        lambda x, y: torch.bmm(x.mT if first else x, y.mT if second else y),
        x,
        y,
    )


def test_maximum_of_ties():
    agree(Maximum(), torch.maximum, *np.random.default_rng(0).integers(0, 2, (2, 5, 4)).astype(float))


def test_lookups():
    random = np.random.default_rng(0)
    indices, table = random.integers(0, 4, (5, 3)), random.normal(size=(4, 2))
    agree(Embedding(entries=4, units=2), F.embedding, indices, table)
    (value,) = evaluate(OneHot(classes=4), indices)
    np.testing.assert_array_equal(value, F.one_hot(torch.from_numpy(indices), 4).numpy())


@pytest.mark.parametrize(("loss", "peer"), LABEL_LOSSES, ids=ids)
def test_losses_of_labels(loss, peer):
    random = np.random.default_rng(0)
    agree(loss, peer, 2 * random.normal(size=(30, 4)), random.integers(0, 4, 30))


@pytest.mark.parametrize(("loss", "peer"), BINARY_LOSSES, ids=ids)
def test_losses_of_two_classes(loss, peer):
    random = np.random.default_rng(0)
    agree(loss, peer, 2 * random.normal(size=30), random.integers(0, 2, 30))


@pytest.mark.parametrize(("loss", "peer"), VALUE_LOSSES, ids=ids)
def test_losses_of_values(loss, peer):
    agree(loss, peer, *np.random.default_rng(0).normal(size=(2, 30, 4)))


def test_loss_of_several_labels():
    random = np.random.default_rng(0)
    for targets in (random.integers(0, 2, (30, 4)).astype(float), random.random((30, 4))):
        agree(
            SigmoidCrossEntropy(),
            lambda s, t: rows(F.binary_cross_entropy_with_logits(s, t, reduction="none")),
            3 * random.normal(size=(30, 4)),
            targets,
        )


def test_every_layer_and_loss_without_random_numbers_is_compared():
    compared = {
        type(node)
        for table in (LAYERS, OF_IMAGES, OF_SEQUENCES, BINARY, LABEL_LOSSES, BINARY_LOSSES, VALUE_LOSSES)
        for node, _ in table
    }
    compared |= {Embedding, MatMul, OneHot}
    everything = {cls for kind in ("layer", "loss") for cls in registered(kind).values()}
    # These use other random numbers than PyTorch.
    assert everything - compared == {ChannelDropout, Dropout, RReLU}


# The layer between the two linear layers of the networks below, which has twelve inputs, and its number of outputs.
OTHER_SHAPES = (Linear, Flatten, Reshape, Slice, Select, Maxout, Max, Mean, Sum)
HIDDEN = {node: (peer, 12) for node, peer in LAYERS if node.kind == "layer" and not isinstance(node, OTHER_SHAPES)}
HIDDEN |= {node: (peer, 4) for node, peer in LAYERS if isinstance(node, Maxout)}
# An optimizer, and the PyTorch optimizer with its options.
OPTIMIZERS = [
    (SGD(lr=0.02), torch.optim.SGD, {}),
    (SGD(lr=0.01, momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (SGD(lr=0.01, momentum=0.9, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (Adam(lr=0.01), torch.optim.Adam, {}),
    (AdamW(lr=0.01, weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
    (RMSProp(lr=0.001), torch.optim.RMSprop, {}),
    (Adagrad(lr=0.02), torch.optim.Adagrad, {}),
]
LOSSES = LABEL_LOSSES + VALUE_LOSSES
STEPS, ROWS, FEATURES, CLASSES = 100, 16, 5, 4


def train(hidden, loss, loss_peer, optimizer, make_peer, options):
    """Train a network here and in PyTorch for a hundred steps on the same new batches, and return both parameters."""
    peer, width = HIDDEN[hidden]
    layers = [Linear(units=12), hidden, Linear(units=CLASSES)]
    task = "regression" if loss.tasks == {"regression"} else "classification"
    graph = with_loss(build_classifier(layers, FEATURES), loss, task)
    plan = Plan(Program.compile(graph, ("loss",), batch=ROWS, dtype=np.float64))
    plan.parameters[...] = initialize(plan.layout, 0, np.float64)
    state = {slot: np.zeros_like(plan.parameters) for slot in optimizer.slots}
    scratch = np.empty_like(plan.parameters)
    ours = plan.layout.views(plan.parameters)
    assert ours["scores.weight"].shape == (width, CLASSES)
    theirs = {name: torch.tensor(view, requires_grad=True) for name, view in ours.items()}
    learnt = {name: theirs[name] for name, each in plan.layout.declarations.items() if not each.statistic}
    weights = [theirs["0_linear.weight"], theirs["scores.weight"]]
    rest = [each for each in learnt.values() if all(each is not weight for weight in weights)]
    groups = [{"params": weights}, {"params": rest, "weight_decay": 0.0}]
    other = make_peer(groups, lr=optimizer.lr, **options)
    own = [theirs[name] for name in ours if name.startswith("1_")]

    random = np.random.default_rng(0)
    target = "targets" if task == "regression" else "labels"
    for step in range(1, STEPS + 1):
        x = random.normal(size=(ROWS, FEATURES))
        t = random.integers(0, CLASSES, ROWS) if target == "labels" else random.normal(size=(ROWS, CLASSES))
        plan.inputs["features"][...], plan.inputs[target][...] = x, t
        plan.forward()
        plan.backward({"loss": 1.0})
        plan.gradients /= ROWS
        for start, stop in plan.layout.statistics:
            plan.gradients[start:stop] = 0
        optimizer.update(
            np,
            plan.parameters,
            plan.gradients,
            state,
            scratch,
            Step(optimizer.learning_rate(step - 1, STEPS, STEPS), step),
            plan.layout.penalized,
        )

        other.zero_grad()
        middle = peer(torch.from_numpy(x) @ theirs["0_linear.weight"] + theirs["0_linear.bias"], *own)
        scores = middle @ theirs["scores.weight"] + theirs["scores.bias"]
        loss_peer(scores, torch.from_numpy(t)).mean().backward()
        other.step()
    return ours, {name: each.detach().numpy() for name, each in theirs.items()}


def assert_trained_alike(*arguments):
    ours, theirs = train(*arguments)
    scale = max(np.abs(view).max() for view in ours.values())
    assert scale < 100, "training diverged, so the comparison is not meaningful"
    for name, view in ours.items():
        np.testing.assert_allclose(view, theirs[name], rtol=1e-10, atol=1e-10 * scale, err_msg=name)


@pytest.mark.parametrize(("loss", "loss_peer"), LOSSES, ids=ids)
@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
def test_a_hundred_steps_of_each_activation_and_loss(hidden, loss, loss_peer):
    assert_trained_alike(hidden, loss, loss_peer, SGD(lr=0.003, momentum=0.9), torch.optim.SGD, {"momentum": 0.9})


@pytest.mark.parametrize(("loss", "loss_peer"), LOSSES, ids=ids)
@pytest.mark.parametrize(("optimizer", "make_peer", "options"), OPTIMIZERS, ids=ids)
def test_a_hundred_steps_of_each_optimizer_and_loss(optimizer, make_peer, options, loss, loss_peer):
    assert_trained_alike(Tanh(), loss, loss_peer, optimizer, make_peer, options)


def test_every_optimizer_is_compared():
    # PyTorch has no Lion.
    assert set(registered("optimizer").values()) - {type(optimizer) for optimizer, _, _ in OPTIMIZERS} == {Lion}
