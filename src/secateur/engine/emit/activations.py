"""Activations: functions of one number that kernels apply to vectors before they store.

NaN stays NaN. `relu`, `clip` and `hard_sigmoid` are one or two min/max with the value as second operand, which is what
keeps a NaN (ENGINE.md 5). Functions with an exponential are accurate to a few units in the last place everywhere,
also where the result is denormal; `ERRORS` states the bounds that the tests prove.
"""

from collections.abc import Callable
from math import inf, pi, sqrt

from secateur.engine.emit.builder import KernelBody, Value
from secateur.engine.emit.error_function import error_function, normal_distribution
from secateur.engine.emit.exponential import constant, exponential, exponential_minus_one
from secateur.engine.emit.logarithm import logarithm, logarithm_of_one_plus
from secateur.graph.ir import Activation

Function = Callable[[KernelBody, Value, Activation], Value]

_functions: dict[str, Function] = {}

_MOVES_ZERO = {"sigmoid", "hard_sigmoid", "exp", "log", "reciprocal", "softplus"}

# Largest error of a kind in units in the last place of the exact result. For x times something small (silu, mish, gelu)
# it is 60 units where the result is below 1e-36; gelu_tanh loses digits where its tail is below 1e-20.
ERRORS: dict[str, float] = {}


def supported(activation: Activation | None) -> bool:
    """Whether kernels can apply this activation."""
    return activation is None or activation.kind in _functions or activation.kind == "prelu"


def keeps_zero(activation: Activation | None) -> bool:
    """Whether the activation of zero is zero."""
    if activation is None or activation.kind == "clip":
        return activation is None or activation.alpha <= 0 <= activation.beta
    return activation.kind not in _MOVES_ZERO


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


def _sigmoid_ratio(body: KernelBody, x: Value) -> tuple[Value, Value]:
    """Numerator and denominator of 1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    small = exponential(body, body.b.fneg(body.call("fabs", x)))
    one = constant(x, 1.0)
    numerator = body.b.select(body.b.fcmp_ordered(">=", x, constant(x, 0.0)), one, small)
    return numerator, body.b.fadd(one, small)


@_activation("sigmoid", 2.5)
def _sigmoid(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.b.fdiv(*_sigmoid_ratio(body, x))


@_activation("silu", 3.5)
def _silu(body: KernelBody, x: Value, how: Activation) -> Value:
    numerator, denominator = _sigmoid_ratio(body, x)
    return body.b.fdiv(body.b.fmul(x, numerator), denominator)


@_activation("gelu", 6)
def _gelu(body: KernelBody, x: Value, how: Activation) -> Value:
    return body.b.fmul(x, normal_distribution(body, x))


@_activation("gelu_tanh", 180)
def _gelu_tanh(body: KernelBody, x: Value, how: Activation) -> Value:
    # x (1 + tanh u) / 2 = x / (1 + e^-2u)
    inner = body.fma(body.b.fmul(x, x), constant(x, 0.044715), constant(x, 1.0))
    twice = body.b.fmul(body.b.fmul(x, constant(x, 2 * sqrt(2 / pi))), inner)
    numerator, denominator = _sigmoid_ratio(body, twice)
    return body.b.fdiv(body.b.fmul(x, numerator), denominator)


@_activation("softplus", 4)
def _softplus(body: KernelBody, x: Value, how: Activation) -> Value:
    small = exponential(body, body.b.fneg(body.call("fabs", x)))
    return body.b.fadd(body.max(constant(x, 0.0), x), logarithm_of_one_plus(body, small))


@_activation("mish", 6)
def _mish(body: KernelBody, x: Value, how: Activation) -> Value:
    # tanh(log(1 + e^x)) = n / (n + 2), n = e^2x + 2 e^x; both times e^-2x where x is positive.
    b = body.b
    t = exponential(body, b.fneg(body.call("fabs", x)))
    positive = b.fcmp_ordered(">=", x, constant(x, 0.0))
    one, two = constant(x, 1.0), constant(x, 2.0)
    twice = b.fmul(t, two)
    numerator = body.fma(b.select(positive, two, t), t, b.select(positive, one, twice))
    rest = b.select(positive, b.fmul(twice, t), two)
    return b.fdiv(b.fmul(x, numerator), b.fadd(numerator, rest))


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


@_activation("log", 2)
def _log(body: KernelBody, x: Value, how: Activation) -> Value:
    return logarithm(body, x)


@_activation("erf", 4)
def _erf(body: KernelBody, x: Value, how: Activation) -> Value:
    return error_function(body, x)


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
