import numpy as np
import pytest

from core import Linear


@pytest.mark.parametrize(
    ("batch", "features", "units", "transposed"),
    [
        (130, 512, 15, {"weight_gradient"}),
        (130, 512, 16, set()),
        (130, 512, 1, {"weight_gradient"}),
        (128, 30, 128, {"input_gradient"}),
        (129, 30, 128, set()),
        (3, 7, 2, set()),
    ],
)
def test_gradients_in_every_layout(batch, features, units, transposed):
    random = np.random.default_rng(batch + units)
    x, upstream = random.normal(size=(batch, features)), random.normal(size=(batch, units))
    weight, bias = random.normal(size=(features, units)), random.normal(size=units)
    layer = Linear(units=units)
    declared = layer.workspace(x.shape)
    assert declared.keys() == transposed
    workspace = {name: np.full(shape, np.nan) for name, (shape, _) in declared.items()}
    gradients = [np.full_like(array, np.nan) for array in (x, weight, bias)]
    layer.backward(np, upstream, (x, weight, bias), None, workspace, gradients)
    expected = "bu,fu->bf", "bf,bu->fu", "bu->u"
    for gradient, formula, operands in zip(
        gradients, expected, [(upstream, weight), (x, upstream), (upstream,)], strict=True
    ):
        np.testing.assert_allclose(gradient, np.einsum(formula, *operands), rtol=1e-11, atol=1e-11)
