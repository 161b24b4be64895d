"""Natural logarithms on vectors.

    log x = e ln 2 + log(1 + f),   x = 2^e (1 + f),   sqrt(1/2) <= 1 + f < sqrt 2,   log(1 + f) = f - f^2 / 2 + f^3 P(f)
    log(1 + t) = t Q(t),           0 <= t <= 1

P (degree 8) and Q (degree 10) are polynomials fitted for least relative error (0.02 units of 2^-24).
"""

from math import inf, nan

from llvmlite import ir

from secateur.engine.emit.builder import I32, KernelBody, Value
from secateur.engine.emit.exponential import constant, polynomial

_P = (
    *(0.3333331346511841, -0.25000008940696716, 0.2000211924314499, -0.1666799634695053, 0.14219550788402557),
    *(-0.12405591458082199, 0.11888174712657928, -0.11675640940666199, 0.06746601313352585),
)
_Q = (
    *(1.0, -0.4999998211860657, 0.33332559466362, -0.24987269937992096, 0.19890744984149933, -0.16105680167675018),
    *(0.12418409436941147, -0.08244138211011887, 0.04147791117429733, -0.013407381251454353, 0.0020302117336541414),
)
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.4286068203094172e-06
_LEAST_NORMAL = 2.0**-126
_HALF_ROOT = 0x3F3504F3  # bits of sqrt(1/2)


def logarithm(body: KernelBody, x: Value) -> Value:
    """log x; -inf at zero, NaN below."""
    b = body.b
    kind = ir.VectorType(I32, x.type.count)

    def splat(number: int) -> Value:
        return ir.Constant(kind, [number] * kind.count)

    tiny = b.fcmp_ordered("<", x, constant(x, _LEAST_NORMAL))
    scaled = b.select(tiny, b.fmul(x, constant(x, 2.0**24)), x)
    above = b.sub(b.bitcast(scaled, kind), splat(_HALF_ROOT))
    exponent = b.ashr(above, splat(23))
    fraction = b.add(b.and_(above, splat(0x7FFFFF)), splat(_HALF_ROOT))
    e = b.fadd(b.sitofp(exponent, x.type), b.select(tiny, constant(x, -24.0), constant(x, 0.0)))
    f = b.fsub(b.bitcast(fraction, x.type), constant(x, 1.0))
    square = b.fmul(f, f)
    small = body.fma(b.fmul(square, f), polynomial(body, f, _P), b.fmul(e, constant(x, _LN2_LOW)))
    small = body.fma(square, constant(x, -0.5), small)
    value = body.fma(e, constant(x, _LN2_HIGH), b.fadd(f, small))
    value = b.select(b.fcmp_ordered("==", x, constant(x, 0.0)), constant(x, -inf), value)
    value = b.select(b.fcmp_ordered("==", x, constant(x, inf)), x, value)
    return b.select(b.fcmp_ordered(">=", x, constant(x, 0.0)), value, constant(x, nan))


def logarithm_of_one_plus(body: KernelBody, t: Value) -> Value:
    """log(1 + t) for 0 <= t <= 1, relative error at most 3 2^-24 also next to zero."""
    return body.b.fmul(t, polynomial(body, t, _Q))
