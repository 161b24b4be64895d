"""An activation of the normal form as ONNX operators.

silu        x sigmoid(x)
hard_swish  x max(0, min(1, x / 6 + 1 / 2))
mish        x tanh(log(1 + e^x))
gelu        x / 2 (1 + erf(x / sqrt 2))
gelu_tanh   x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from secateur.errors import ModelError
from secateur.graph.ir import Activation
from secateur.graph.rewrite import Draft


class ActivationWriter(Protocol):
    """What this file needs of expand_writer.py's Writer."""

    @property
    def draft(self) -> Draft: ...
    @property
    def opset(self) -> int: ...
    @property
    def out(self) -> str: ...
    def emit(self, op: str, inputs: Sequence[str], out: str | Sequence[str], **attributes: Any) -> None: ...
    def step(self, op: str, inputs: Sequence[str], shape: Sequence[int] | None = None, **attributes: Any) -> str: ...
    def number(self, value: float) -> str: ...


def expand_activation(writer: ActivationWriter, x: str, activation: Activation | None, slope: str = "") -> None:
    """Write the output of the writer's node: the activation of x, or x itself.

    slope     for prelu: the constant of one slope per channel
    raises    ModelError  an unknown kind
    """
    if activation is None:
        writer.emit("Identity", (x,), writer.out)
    elif activation.kind in _SAME:
        writer.emit(_SAME[activation.kind], (x,), writer.out)
    elif activation.kind == "prelu":
        shape = writer.draft.shape(writer.out)
        slopes = writer.draft.constants[slope].reshape(-1, *(1,) * (len(shape) - 2))
        writer.emit("PRelu", (x, writer.draft.constant(f"{slope}/c", slopes)), writer.out)
    elif activation.kind in _CHAINS:
        _CHAINS[activation.kind](writer, x, activation)
    else:
        raise ModelError(f"there is no activation '{activation.kind}'.")


_SAME = {
    "abs": "Abs",
    "erf": "Erf",
    "exp": "Exp",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}


def _clip(writer: ActivationWriter, x: str, activation: Activation) -> None:
    bounds = [writer.number(value) if math.isfinite(value) else "" for value in (activation.alpha, activation.beta)]
    writer.emit("Clip", (x, *bounds), writer.out)


def _leaky(writer: ActivationWriter, x: str, activation: Activation) -> None:
    writer.emit("LeakyRelu", (x,), writer.out, alpha=activation.alpha)


def _elu(writer: ActivationWriter, x: str, activation: Activation) -> None:
    writer.emit("Elu", (x,), writer.out, alpha=activation.alpha)


def _hard_sigmoid(writer: ActivationWriter, x: str, activation: Activation) -> None:
    writer.emit("HardSigmoid", (x,), writer.out, alpha=activation.alpha, beta=activation.beta)


def _hard_swish(writer: ActivationWriter, x: str, activation: Activation) -> None:
    if writer.opset >= 14:
        writer.emit("HardSwish", (x,), writer.out)
    else:
        writer.emit("Mul", (x, writer.step("HardSigmoid", (x,), alpha=1 / 6, beta=0.5)), writer.out)


def _silu(writer: ActivationWriter, x: str, activation: Activation) -> None:
    writer.emit("Mul", (x, writer.step("Sigmoid", (x,))), writer.out)


def _mish(writer: ActivationWriter, x: str, activation: Activation) -> None:
    if writer.opset >= 18:
        writer.emit("Mish", (x,), writer.out)
    else:
        writer.emit("Mul", (x, writer.step("Tanh", (writer.step("Softplus", (x,)),))), writer.out)


def _gelu(writer: ActivationWriter, x: str, activation: Activation) -> None:
    if writer.opset >= 20:
        writer.emit("Gelu", (x,), writer.out)
        return
    erf = writer.step("Erf", (writer.step("Mul", (x, writer.number(math.sqrt(0.5)))),))
    _half_of_one_plus(writer, x, erf)


def _gelu_tanh(writer: ActivationWriter, x: str, activation: Activation) -> None:
    if writer.opset >= 20:
        writer.emit("Gelu", (x,), writer.out, approximate="tanh")
        return
    cube = writer.step("Mul", (writer.step("Mul", (x, x)), x))
    inner = writer.step("Add", (x, writer.step("Mul", (cube, writer.number(0.044715)))))
    tanh = writer.step("Tanh", (writer.step("Mul", (inner, writer.number(math.sqrt(2 / np.pi)))),))
    _half_of_one_plus(writer, x, tanh)


def _half_of_one_plus(writer: ActivationWriter, x: str, value: str) -> None:
    half = writer.step("Mul", (x, writer.number(0.5)))
    writer.emit("Mul", (half, writer.step("Add", (value, writer.number(1.0)))), writer.out)


_CHAINS: dict[str, Callable[[ActivationWriter, str, Activation], None]] = {
    "clip": _clip,
    "elu": _elu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "leaky_relu": _leaky,
    "mish": _mish,
    "silu": _silu,
}
