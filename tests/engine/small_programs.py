"""Programs of tiny kernels, to test the runtime without any convolution."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from secateur.engine.emit.builder import KernelModule
from secateur.engine.program import Address, Buffer, Port, Program, Step
from secateur.engine.target import host_target

HOST_LANES = host_target().lanes


@dataclass(frozen=True)
class Axpy:
    """out = factor x + y; a unit is one vector."""

    fields = ("factor", "x", "y", "out")
    name: str = "test_axpy"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as k:
            factor = k.splat(k.number("factor"))
            x, y, out = (k.pointer(field) for field in ("x", "y", "out"))
            with k.loop(k.begin, k.end) as unit:
                at = k.b.mul(unit, k.i64(module.lanes))
                k.store(k.fma(factor, k.load(x, at), k.load(y, at)), out, at)


@dataclass(frozen=True)
class RowSums:
    """out[i] = sum of row i of x, `width` floats, summed one after the other; a unit is one row.

    The sum goes through scratch memory, so that threads that share it would disturb each other.
    """

    fields = ("x", "width", "out")
    name: str = "test_row_sums"

    def emit(self, module: KernelModule) -> None:
        with module.kernel(self.name, self.fields) as k:
            x, width, out = k.pointer("x"), k.integer("width"), k.pointer("out")
            with k.loop(k.begin, k.end) as row:
                k.store_scalar(k.f32(0.0), k.scratch)
                with k.loop(0, width) as column:
                    value = k.load_scalar(x, k.b.add(k.b.mul(row, width), column))
                    k.store_scalar(k.b.fadd(k.load_scalar(k.scratch), value), k.scratch)
                k.store_scalar(k.load_scalar(k.scratch), out, row)


@dataclass(frozen=True)
class Example:
    """A program, and what it computes."""

    program: Program
    expected: Callable[[np.ndarray], np.ndarray]


def pipeline(rows: int = 40, width: int = 48, weights_seed: int = 0, lanes: int = HOST_LANES) -> Example:
    """Sums of the rows of 3 (2 x + a) + b, for vectors of `lanes` floats.

    Of the buffers between, `second` is alive with `first` and with `third`, which are never alive together.
    """
    random = np.random.default_rng(weights_seed)
    a, b = (random.standard_normal((rows, width)).astype(np.float32) for _ in "ab")
    size = rows * width
    x, y = Buffer("x", size, external="x"), Buffer("y", rows, external="y")
    first, second, third = (Buffer(name, size, "plain") for name in ("first", "second", "third"))
    zeros = Buffer("zeros", size, "zeros", zeroed=True)

    def axpy(layer: str, factor: float, source: Buffer, addend: np.ndarray | Buffer, out: Buffer) -> Step:
        other = Address(addend) if isinstance(addend, Buffer) else addend
        reads = (source, addend) if isinstance(addend, Buffer) else (source,)
        arguments = {"factor": factor, "x": Address(source), "y": other, "out": Address(out)}
        return Step(layer, Axpy(), arguments, size // lanes, reads, (out,))

    steps = (
        axpy("double", 2.0, x, a, first),
        axpy("triple", 3.0, first, b, second),
        axpy("once", 1.0, second, zeros, third),
        Step(
            "sums",
            RowSums(),
            {"x": Address(third), "width": width, "out": Address(y)},
            rows,
            (third,),
            (y,),
            costs=np.arange(rows) + 1.0,
            scratch=64,
        ),
    )
    ports = (Port("x", (rows, width), "float32", x),), (Port("y", (rows,), "float32", y),)

    def expected(given: np.ndarray) -> np.ndarray:
        # 2 x is exact, so an addition rounds as the fused operation; 3 (...) + b is nearly always exact in float64.
        inner = (np.float32(2) * given + a).astype(np.float64)
        outer = (3 * inner + b).astype(np.float32)
        total = np.zeros(rows, np.float32)
        for column in range(width):
            total = total + outer[:, column]
        return total

    return Example(Program(steps, *ports), expected)
