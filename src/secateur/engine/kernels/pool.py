"""Maximum and average over windows of a map.

    out[y, x] = reduction over ky, kx of in[y sh + ky dh - top, x sw + kx dw - left]          inside the map

Each output row: first down the window's rows into one row in scratch memory, with the reduction's identity to both
sides, then along it. Averages are multiplied by the shares 1 / rows and 1 / columns of the elements that count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secateur.engine.emit.builder import F32, KernelBody, KernelModule, Value
from secateur.engine.emit.reductions import Reduction

# Rows that are reduced downward before the first of them is reduced along: it has then left the store buffer, from
# which loads at other alignments cannot be served.
ROWS = 4


@dataclass(frozen=True)
class Pool:
    """Units are parts of `rows` output rows of a plane.

    kind     max, max_u8 (of quads of bytes), or sum (an average)
    step     columns between windows: 1, 2, or 0 for any number
    width    window's columns, 0 for any number
    """

    kind: str
    step: int
    width: int

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_pool_{self.kind}_{self.width or 'any'}_by_{self.step or 'any'}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: planes (i64 elements), 1 / rows and 1 / columns that an output averages (float32).

        row_size    floats of a scratch row, a multiple of 16: left, map, right, rest of the last vector; ROWS of them
        """
        return (
            *("x", "y", "sources", "targets", "row_shares", "column_shares", "parts", "rows", "row_size"),
            *("h", "w", "out_h", "out_w", "source_row", "target_row"),
            *("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "top", "left"),
        )

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as body:
            _Writer(body, self).write()


class _Writer:
    def __init__(self, body: KernelBody, kernel: Pool) -> None:
        self.body, self.kernel = body, kernel
        self.reduction = Reduction(kernel.kind)
        self.lanes = body.lanes
        self.pointers = {name: body.pointer(name) for name in kernel.fields[:6]}
        self.sizes = {name: body.integer(name) for name in kernel.fields[6:]}

    def write(self) -> None:
        f, b, size = self.body, self.body.b, self.sizes
        nothing = f.splat(self.reduction.identity)
        with f.loop(0, b.mul(size["row_size"], f.i64(ROWS)), self.lanes) as x:
            f.store(nothing, f.scratch, x)
        with f.loop(f.begin, f.end) as unit:
            plane = b.sdiv(unit, size["parts"])
            first = b.mul(b.srem(unit, size["parts"]), size["rows"])
            last = f.smaller(size["out_h"], b.add(first, size["rows"]))
            source = f.element(self.pointers["x"], f.load_i64(self.pointers["sources"], plane))
            target = f.element(self.pointers["y"], f.load_i64(self.pointers["targets"], plane))
            with f.loop(first, last, ROWS) as block:
                end = f.smaller(last, b.add(block, f.i64(ROWS)))
                with f.loop(block, end) as y:
                    start = b.sub(b.mul(y, size["stride_h"]), size["top"])
                    self.down(source, start, self.row(y, block))
                with f.loop(block, end) as y:
                    self.along(f.element(target, b.mul(y, size["target_row"])), y, self.row(y, block))

    def row(self, y: Value, block: Value) -> Value:
        return self.body.element(self.body.scratch, self.body.b.mul(self.body.b.sub(y, block), self.sizes["row_size"]))

    def down(self, source: Value, start: Value, row: Value) -> None:
        """The window's rows, from row `start` of the map, as one row in scratch memory."""
        f, b, size = self.body, self.body.b, self.sizes
        row = f.element(row, size["left"])
        step = size["dilation_h"]
        # The first and last window row inside the map: divisions round up, starts are negative at most once a map.
        before = f.larger(f.i64(0), b.sdiv(b.add(b.neg(start), b.sub(step, f.i64(1))), step))
        below = b.sdiv(b.add(b.sub(size["h"], start), b.sub(step, f.i64(1))), step)
        after = f.smaller(size["kernel_h"], below)
        distance = b.mul(step, size["source_row"])
        top = f.element(source, b.mul(b.add(start, b.mul(before, step)), size["source_row"]))
        count = b.sub(after, before)
        whole = b.and_(size["w"], f.i64(-self.lanes))
        with f.loop(0, whole, self.lanes) as x:
            total = f.var(f.vector, f.splat(self.reduction.identity))
            with f.loop(0, count) as k:
                value = f.load(top, b.add(x, b.mul(k, distance)))
                total.set(self.reduction.combine(f, total.get(), value))
            f.store(total.get(), row, x)
        rest = b.sub(size["w"], whole)
        with f.if_(b.icmp_signed(">", rest, f.i64(0))):
            mask = f.first_lanes(rest)
            total = f.var(f.vector, f.splat(self.reduction.identity))
            with f.loop(0, count) as k:
                value = f.load_masked(mask, top, b.add(whole, b.mul(k, distance)), self.reduction.identity)
                total.set(self.reduction.combine(f, total.get(), value))
            f.store(total.get(), row, whole)

    def along(self, target: Value, y: Value, row: Value) -> None:
        """The windows of a scratch row as a row of outputs."""
        f, b, size = self.body, self.body.b, self.sizes
        if not self.kernel.step:
            with f.loop(0, size["out_w"]) as x:
                at = b.mul(x, size["stride_w"])
                total = self.window(lambda k: f.load_scalar(row, b.add(at, k)), F32)
                f.store_scalar(self.finished(total, f.load_scalar, y, x), target, x)
            return
        whole = b.and_(size["out_w"], f.i64(-self.lanes))
        with f.loop(0, whole, self.lanes) as x:
            f.store(self.window_vector(row, y, x), target, x)
        rest = b.sub(size["out_w"], whole)
        with f.if_(b.icmp_signed(">", rest, f.i64(0))):
            f.store_masked(f.first_lanes(rest), self.window_vector(row, y, whole), target, whole)

    def window_vector(self, row: Value, y: Value, x: Value) -> Value:
        f, b = self.body, self.body.b
        at = b.mul(x, f.i64(self.kernel.step))

        def load(k: Value) -> Value:
            if self.kernel.step == 1:
                return f.load(row, b.add(at, k))
            low = f.load(row, b.add(at, k))
            high = f.load(row, b.add(b.add(at, k), f.i64(self.lanes)))
            return f.shuffle(low, high, range(0, 2 * self.lanes, 2))

        return self.finished(self.window(load, f.vector), f.load, y, x)

    def window(self, load: Callable[[Value], Value], kind: Any) -> Value:
        f, b, size = self.body, self.body.b, self.sizes
        if self.kernel.width:
            total = load(f.i64(0))
            for k in range(1, self.kernel.width):
                total = self.reduction.combine(f, total, load(b.mul(size["dilation_w"], f.i64(k))))
            return total
        total = f.var(kind, load(f.i64(0)))
        with f.loop(1, size["kernel_w"]) as k:
            total.set(self.reduction.combine(f, total.get(), load(b.mul(size["dilation_w"], k))))
        return total.get()

    def finished(self, total: Value, load: Callable[[Value, Value], Value], y: Value, x: Value) -> Value:
        f, b = self.body, self.body.b
        if self.kernel.kind != "sum":
            return total
        columns = load(self.pointers["column_shares"], x)
        rows = f.load_scalar(self.pointers["row_shares"], y)
        rows = rows if total.type == F32 else f.splat(rows)
        return b.fmul(total, b.fmul(rows, columns))
