"""The gradient check raises no false alarm on networks of registered layers and losses, put together at random."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core import (
    ELU,
    GELU,
    BatchNorm,
    Dropout,
    HardTanh,
    Hinge,
    LayerNorm,
    Linear,
    Maxout,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    Softplus,
    Swish,
    Tanh,
)
from core.gradcheck.model import check_model
from core.gradcheck.report import Outcome
from core.graph.classifier import build_classifier, with_loss

LAYERS = [
    ReLU(), ReLU6(), ELU(), GELU(), PReLU(), Maxout(), Tanh(), HardTanh(), Sigmoid(), Softplus(), Swish(), BatchNorm(),
    LayerNorm(), Dropout(rate=0.25),
]  # fmt: skip
LOSSES = [SoftmaxCrossEntropy(), SoftmaxCrossEntropy(label_smoothing=0.1), Hinge(), SigmoidCrossEntropy()]


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from([4, 6]), st.sampled_from(LAYERS)), min_size=1, max_size=3),
    st.sampled_from(LOSSES),
    st.integers(0, 1000),
)
def test_no_false_alarm(blocks, loss, seed):
    layers = [layer for units, activation in blocks for layer in (Linear(units=units), activation)]
    graph = with_loss(build_classifier([*layers, Linear(units=4)], 5), loss, "classification")
    report = check_model(graph, rows=8, seed=seed)
    assert report.outcome is not Outcome.WRONG, report
