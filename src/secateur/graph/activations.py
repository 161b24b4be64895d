"""What every activation computes, in float64: the definition that constants are folded with and kernels tested against.

    relu          max(x, 0)                         sigmoid     1 / (1 + e^-x)
    clip          min(max(x, alpha), beta)          tanh        tanh x
    leaky_relu    x, alpha x below 0                softplus    log(1 + e^x)
    prelu         x, slope x below 0                silu        x sigmoid(x)
    elu           x, alpha (e^x - 1) below 0        mish        x tanh(softplus(x))
    hard_sigmoid  min(max(alpha x + beta, 0), 1)    gelu        x / 2 (1 + erf(x / sqrt 2))
    hard_swish    x min(max(x / 6 + 1 / 2, 0), 1)   gelu_tanh   x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))

and abs, erf, exp, neg, reciprocal, sqrt.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ModelError
from secateur.graph.ir import Activation

Doubles = NDArray[np.float64]


def apply_activation(activation: Activation | None, x: Doubles, slope: Doubles | None = None) -> Doubles:
    """The activation of every number.

    slope     for prelu: slopes that broadcast with x
    raises    ModelError  an unknown kind
    """
    if activation is None:
        return x
    with np.errstate(all="ignore"):
        if activation.kind == "prelu" and slope is not None:
            return np.where(x < 0, slope * x, x)
        if activation.kind not in _FUNCTIONS:
            raise ModelError(f"there is no activation '{activation.kind}'.")
        return _FUNCTIONS[activation.kind](x, activation.alpha, activation.beta)


def _erf(x: Doubles) -> Doubles:
    return np.array([math.erf(value) for value in x.reshape(-1).tolist()], np.float64).reshape(x.shape)


def _sigmoid(x: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Doubles) -> Doubles:
    return np.logaddexp(x, 0)


def _gelu_tanh(x: Doubles) -> Doubles:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


_FUNCTIONS: dict[str, Callable[[Doubles, float, float], Doubles]] = {
    "abs": lambda x, a, b: np.abs(x),
    "clip": lambda x, a, b: np.minimum(np.maximum(x, a), b),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(x), x),
    "erf": lambda x, a, b: _erf(x),
    "exp": lambda x, a, b: np.exp(x),
    "gelu": lambda x, a, b: 0.5 * x * (1 + _erf(x * math.sqrt(0.5))),
    "gelu_tanh": lambda x, a, b: _gelu_tanh(x),
    "hard_sigmoid": lambda x, a, b: np.minimum(np.maximum(a * x + b, 0), 1),
    "hard_swish": lambda x, a, b: x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1),
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "mish": lambda x, a, b: x * np.tanh(_softplus(x)),
    "neg": lambda x, a, b: -x,
    "reciprocal": lambda x, a, b: 1 / x,
    "relu": lambda x, a, b: np.maximum(x, 0),
    "sigmoid": lambda x, a, b: _sigmoid(x),
    "silu": lambda x, a, b: x * _sigmoid(x),
    "softplus": lambda x, a, b: _softplus(x),
    "sqrt": lambda x, a, b: np.sqrt(x),
    "tanh": lambda x, a, b: np.tanh(x),
}
