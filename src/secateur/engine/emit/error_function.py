"""The error function and the normal distribution on vectors.

    erfc(y) = e^(-y^2) t G(t),   t = 1 / (1 + 0.4 y),   y >= 0
    erf(x)  = x P(x^2)           |x| < 1

G (degree 10) and P (degree 6) are polynomials fitted for least relative error (0.03 and 0.02 units of 2^-24). The
square is carried with its rounding error, so that the exponential is right far out in the tail too.
"""

from secateur.engine.emit.builder import KernelBody, Value
from secateur.engine.emit.exponential import constant, exponential, polynomial

_SLOPE = 0.4
_G = (
    *(0.225685253739357, 0.2254498451948166, 0.20995646715164185, 0.157939612865448, 0.17018766701221466),
    *(-0.04113337770104408, 0.15737205743789673, -0.08322080224752426, -0.08403998613357544, 0.08071751892566681),
    -0.01891424134373665,
)
_P = (
    *(1.1283791065216064, -0.3761262595653534, 0.1128358542919159, -0.026853810995817184),
    *(0.005188327748328447, -0.0008010192541405559, 7.853857823647559e-05),
)


def error_function(body: KernelBody, x: Value) -> Value:
    """erf(x)."""
    b = body.b
    size = body.call("fabs", x)
    near = b.fmul(size, polynomial(body, b.fmul(x, x), _P))
    far = b.fsub(constant(x, 1.0), complement(body, size, 1.0))
    value = b.select(b.fcmp_ordered(">=", size, constant(x, 1.0)), far, near)
    return body.call("copysign", value, x)


def normal_distribution(body: KernelBody, x: Value) -> Value:
    """The probability that a standard normal variable is below x, (1 + erf(x / sqrt 2)) / 2."""
    b = body.b
    tail = b.fmul(complement(body, body.call("fabs", x), 0.5), constant(x, 0.5))
    return b.select(b.fcmp_ordered(">=", x, constant(x, 0.0)), b.fsub(constant(x, 1.0), tail), tail)


def complement(body: KernelBody, size: Value, square_scale: float) -> Value:
    """1 - erf(sqrt(square_scale) size) for size >= 0."""
    b = body.b
    one = constant(size, 1.0)
    t = b.fdiv(one, body.fma(size, constant(size, _SLOPE * square_scale**0.5), one))
    # Beyond the largest exponent that matters the square would overflow, and its rounding error be infinite.
    size = body.min(constant(size, 15.0), size)
    square = b.fmul(size, size)
    error = body.fma(size, size, b.fneg(square))
    scale = constant(size, -square_scale)
    power = exponential(body, b.fmul(square, scale))
    power = body.fma(power, b.fmul(error, scale), power)
    return b.fmul(power, b.fmul(t, polynomial(body, t, _G)))
