"""e^x and its relatives on vectors, without a math library (ENGINE.md 4.1.18).

    e^x = 2^n e^r,   n = round(x / ln 2),   |r| <= ln 2 / 2,   e^r = 1 + r + r^2 Q(r)

Q is a polynomial of degree 4, fitted for least relative error of e^r (0.06 units of 2^-24). The power of two is
applied in two halves, so that denormal results are right as well. The step to n by adding 1.5 2^23 never converts a
NaN to an integer, which LLVM leaves undefined.
"""

from llvmlite import ir

from secateur.engine.emit.builder import I32, KernelBody, Value

_Q = (0.5, 0.166665181517601, 0.04166620597243309, 0.008368954062461853, 0.0013950599823147058)
_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.4286068203094172e-06
_MAGIC = 12582912.0
_LOWEST, _HIGHEST = -104.0, 89.0
_NO_SHARE = -80.0


def constant(value: Value, number: float) -> Value:
    """A vector like `value`, all lanes `number`."""
    return ir.Constant(value.type, [number] * value.type.count)


def polynomial(body: KernelBody, x: Value, coefficients: tuple[float, ...]) -> Value:
    """c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
    total = constant(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = body.fma(total, x, constant(x, coefficient))
    return total


def exponential(body: KernelBody, x: Value) -> Value:
    """e^x; at most 1.1 ulp from the exact value; 0 below -104, infinite above 88.73, NaN stays."""
    shifted, tail = _reduce(body, x)
    value = body.b.fadd(constant(x, 1.0), tail)
    half, rest = _halves(body, shifted)
    return body.b.fmul(body.b.fmul(value, half), rest)


def share(body: KernelBody, x: Value) -> Value:
    """e^x for x <= 0, and zero below -80, for sums in which another term is one.

    Such terms change nothing but would become denormal numbers, with which some processors compute a hundred times
    slower (attention masks subtract 100 and more).
    """
    power = exponential(body, body.max(constant(x, _NO_SHARE), x))
    return body.b.select(body.b.fcmp_ordered("<", x, constant(x, _NO_SHARE)), constant(x, 0.0), power)


def exponential_minus_one(body: KernelBody, x: Value) -> Value:
    """e^x - 1 for x <= 0, relative error at most 3 2^-24 also next to zero."""
    shifted, tail = _reduce(body, x)
    half, rest = _halves(body, shifted)
    power = body.b.fmul(half, rest)
    return body.fma(tail, power, body.b.fsub(power, constant(x, 1.0)))


def _reduce(body: KernelBody, x: Value) -> tuple[Value, Value]:
    """n + 1.5 2^23, and e^r - 1."""
    b = body.b
    x = body.min(constant(x, _HIGHEST), body.max(constant(x, _LOWEST), x))
    shifted = body.fma(x, constant(x, _LOG2E), constant(x, _MAGIC))
    n = b.fsub(shifted, constant(x, _MAGIC))
    r = body.fma(n, constant(x, -_LN2_HIGH), x)
    r = body.fma(n, constant(x, -_LN2_LOW), r)
    return shifted, body.fma(b.fmul(r, r), polynomial(body, r, _Q), r)


def _halves(body: KernelBody, shifted: Value) -> tuple[Value, Value]:
    """2^(n // 2) and 2^(n - n // 2) of a shifted n."""
    b = body.b
    kind = ir.VectorType(I32, shifted.type.count)

    def splat(number: int) -> Value:
        return ir.Constant(kind, [number] * kind.count)

    # The low bits of the shifted float count up from those of 1.5 2^23.
    whole = b.sub(b.bitcast(shifted, kind), splat(0x4B400000))
    half = b.ashr(whole, splat(1))
    rest = b.sub(whole, half)
    powers = (b.shl(b.add(part, splat(127)), splat(23)) for part in (half, rest))
    first, second = (b.bitcast(power, shifted.type) for power in powers)
    return first, second
