"""The definition of every activation against closed forms and at its edges."""

import math

import numpy as np
import pytest

from secateur.errors import ModelError
from secateur.graph.activations import apply_activation
from secateur.graph.ir import Activation

X = np.linspace(-8, 8, 161)


@pytest.mark.parametrize(
    ("activation", "wanted"),
    [
        (Activation("relu"), lambda x: max(x, 0)),
        (Activation("clip", -1, 2), lambda x: min(max(x, -1), 2)),
        (Activation("leaky_relu", 0.1), lambda x: x if x >= 0 else 0.1 * x),
        (Activation("elu", 2), lambda x: x if x >= 0 else 2 * (math.exp(x) - 1)),
        (Activation("sigmoid"), lambda x: 1 / (1 + math.exp(-x))),
        (Activation("hard_sigmoid", 0.2, 0.5), lambda x: max(0, min(1, 0.2 * x + 0.5))),
        (Activation("hard_swish"), lambda x: x * max(0, min(6, x + 3)) / 6),
        (Activation("silu"), lambda x: x / (1 + math.exp(-x))),
        (Activation("softplus"), lambda x: math.log(1 + math.exp(x))),
        (Activation("mish"), lambda x: x * math.tanh(math.log(1 + math.exp(x)))),
        (Activation("gelu"), lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2))),
        (Activation("erf"), math.erf),
        (Activation("tanh"), math.tanh),
        (Activation("exp"), math.exp),
        (Activation("abs"), abs),
        (Activation("neg"), lambda x: -x),
    ],
    ids=lambda each: each.kind if isinstance(each, Activation) else "",
)
def test_closed_forms(activation: Activation, wanted):
    np.testing.assert_allclose(apply_activation(activation, X), [wanted(x) for x in X], rtol=1e-9, atol=1e-12)


def test_gelu_tanh_is_close_to_gelu():
    exact, near = (apply_activation(Activation(kind), X) for kind in ("gelu", "gelu_tanh"))
    assert 1e-5 < np.abs(exact - near).max() < 5e-4


def test_positive_only():
    x = np.array([0.25, 4.0])
    assert apply_activation(Activation("sqrt"), x).tolist() == [0.5, 2]
    assert apply_activation(Activation("reciprocal"), x).tolist() == [4, 0.25]


def test_slopes_and_nothing():
    x = np.array([[-2.0, 2], [-4, 4]])
    assert apply_activation(Activation("prelu"), x, np.array([0.5, 0.25])).tolist() == [[-1, 2], [-2, 4]]
    assert apply_activation(None, x) is x


def test_large_numbers():
    x = np.array([-1e4, 1e4])
    for kind, wanted in {
        "sigmoid": [0, 1],
        "silu": [0, 1e4],
        "softplus": [0, 1e4],
        "mish": [0, 1e4],
        "gelu": [0, 1e4],
    }.items():
        np.testing.assert_allclose(apply_activation(Activation(kind), x), wanted, atol=1e-9)


def test_an_unknown_kind_is_a_sentence():
    with pytest.raises(ModelError, match="no activation 'sine'"):
        apply_activation(Activation("sine"), X)
