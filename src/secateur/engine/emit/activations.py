"""Activations: functions of one number that kernels apply to vectors before they store.

NaN stays NaN. `relu`, `clip` and `hard_sigmoid` are one or two min/max with the value as second operand, which is what
keeps a NaN (ENGINE.md 5). Functions with an exponential are accurate to a few units in the last place everywhere,
also where the result is denormal; `ERRORS` states the bounds that the tests prove.
"""

from collections.abc import Callable
from math import inf

from secateur.engine.emit.builder import KernelBody, Value
from secateur.engine.emit.exponential import constant, exponential, exponential_minus_one
from secateur.graph.ir import Activation

Function = Callable[[KernelBody, Value, Activation], Value]

_functions: dict[str, Function] = {}

# Largest error of a kind in units in the last place of the exact result (silu below -87, where that is less than
# 1e-36: 60 units).
ERRORS: dict[str, float] = {}


def supported(activation: Activation | None) -> bool:
    """Whether kernels can apply this activation."""
    return activation is None or activation.kind in _functions or activation.kind == "prelu"


def activate(body: KernelBody, value: Value, activation: Activation | None, slope: Value | None = None) -> Value:
    """The activation of every lane of a vector; the vector itself without an activation.

    slope    for prelu: a vector of slopes for negative values
    """
    if activation is None:
        return value
    if activation.kind == "prelu":
        assert slope is not None
        return _leaky(body, value, slope)
    return _functions[activation.kind](body, value, activation)


def symbol(activation: Activation | None) -> str:
    """The activation as part of a kernel's name: differs when the code differs."""
    if activation is None:
        return ""
    numbers = (repr(number) for number in (activation.alpha, activation.beta) if number)
    text = "_".join([activation.kind, *numbers])
    return "".join(
        letter if letter.isalnum() or letter == "_" else {"-": "m", ".": "p"}.get(letter, "x") for letter in text
    )


def _activation(kind: str, error: float) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        _functions[kind] = function
        ERRORS[kind] = error
        return function

    return register


def _leaky(body: KernelBody, x: Value, slope: Value) -> Value:
    positive = body.b.fcmp_ordered(">=", x, constant(x, 0.0))
    return body.b.select(positive, x, body.b.fmul(x, slope))


def _clip(body: KernelBody, x: Value, low: float, high: float) -> Value:
    if low > -inf:
        x = body.max(constant(x, low), x)
    return body.min(constant(x, high), x) if high < inf else x


@_activation("relu", 0)
def _relu(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.max(constant(x, 0.0), x)


@_activation("clip", 0)
def _clip_kind(body: KernelBody, x: Value, how: Activation) -> Value:
    return _clip(body, x, how.alpha, how.beta)


@_activation("leaky_relu", 0.5)
def _leaky_relu(body: KernelBody, x: Value, how: Activation) -> Value:
    return _leaky(body, x, constant(x, how.alpha))


@_activation("hard_sigmoid", 2)
def _hard_sigmoid(body: KernelBody, x: Value, how: Activation) -> Value:
    return _clip(body, body.fma(x, constant(x, how.alpha), constant(x, how.beta)), 0.0, 1.0)


@_activation("hard_swish", 2)
def _hard_swish(body: KernelBody, x: Value, how: Activation) -> Value:
    gate = _clip(body, body.fma(x, constant(x, 1 / 6), constant(x, 0.5)), 0.0, 1.0)
    return body.b.fmul(x, gate)


def _halves_of_sigmoid(body: KernelBody, x: Value) -> tuple[Value, Value]:
    """Numerator and denominator of 1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    small = exponential(body, body.b.fneg(body.call("fabs", x)))
    one = constant(x, 1.0)
    numerator = body.b.select(body.b.fcmp_ordered(">=", x, constant(x, 0.0)), one, small)
    return numerator, body.b.fadd(one, small)


@_activation("sigmoid", 2.5)
def _sigmoid(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.b.fdiv(*_halves_of_sigmoid(body, x))


@_activation("silu", 3.5)
def _silu(body: KernelBody, x: Value, how: Activation) -> Value:
    numerator, denominator = _halves_of_sigmoid(body, x)
    return body.b.fdiv(body.b.fmul(x, numerator), denominator)


@_activation("tanh", 4)
def _tanh(body: KernelBody, x: Value, how: Activation) -> Value:
    size = body.call("fabs", x)
    less = exponential_minus_one(body, body.b.fmul(size, constant(x, -2.0)))
    value = body.b.fdiv(body.b.fneg(less), body.b.fadd(less, constant(x, 2.0)))
    return body.call("copysign", value, x)


@_activation("elu", 4)
def _elu(body: KernelBody, x: Value, how: Activation) -> Value:
    less = body.b.fmul(exponential_minus_one(body, body.min(constant(x, 0.0), x)), constant(x, how.alpha))
    return body.b.select(body.b.fcmp_ordered(">", x, constant(x, 0.0)), x, less)


@_activation("exp", 1.5)
def _exp(body: KernelBody, x: Value, how: Activation) -> Value:
    return exponential(body, x)


@_activation("sqrt", 0.5)
def _sqrt(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.call("sqrt", x)


@_activation("abs", 0)
def _abs(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.call("fabs", x)


@_activation("neg", 0)
def _neg(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.b.fneg(x)


@_activation("reciprocal", 0.5)
def _reciprocal(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.b.fdiv(constant(x, 1.0), x)
