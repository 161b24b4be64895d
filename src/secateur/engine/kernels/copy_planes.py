"""Copies of planes: other pitches, shifts, strides, phases, im2col rows, any order of channels.

    target[y, x] = source[y source_row + x step]   for top <= y < bottom, left <= x < right
                   fill                            elsewhere in the h x w map

A unit is a part of a plane's rows, a tap one of the shifted copies that are made of each plane: the s x s phases of a
strided convolution, the kernel's positions for im2col, a single one for plain copies. Padding of the target between
rows and planes is not touched.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import F32, KernelBody, KernelModule, Value

# Elements: where the source and the target of the tap begin; the part of the map that the source covers.
TAP_FIELDS = ("source", "target", "top", "bottom", "left", "right")


@dataclass(frozen=True)
class CopyPlanes:
    """Units are parts of `rows` rows of the planes of a table.

    step    1 or 2: source elements from one column to the next, 0: any number
    """

    step: int

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_copy_planes_{self.step or 'any'}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: `sources`, `targets` (i64 per plane), `taps` (rows of TAP_FIELDS)."""
        return (
            *("x", "y", "sources", "targets", "taps", "tap_count", "parts", "rows"),
            *("h", "w", "source_row", "target_row", "step", "fill"),
        )

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as body:
            _Writer(body, self.step).write()


class _Writer:
    def __init__(self, body: KernelBody, step: int) -> None:
        self.body = body
        self.step = step
        self.lanes = body.lanes
        self.fill = body.number("fill")
        self.fills = body.splat(self.fill)
        self.w = body.integer("w")
        self.source_row, self.target_row = body.integer("source_row"), body.integer("target_row")
        self.columns = body.integer("step")

    def write(self) -> None:
        f, b = self.body, self.body.b
        x, y, taps = f.pointer("x"), f.pointer("y"), f.pointer("taps")
        sources, targets = f.pointer("sources"), f.pointer("targets")
        parts, rows, h, tap_count = (f.integer(name) for name in ("parts", "rows", "h", "tap_count"))
        with f.loop(f.begin, f.end) as unit:
            plane = b.sdiv(unit, parts)
            first = b.mul(b.srem(unit, parts), rows)
            last = f.smaller(h, b.add(first, rows))
            source, target = f.load_i64(sources, plane), f.load_i64(targets, plane)
            with f.loop(0, tap_count) as t:
                at = b.mul(t, f.i64(len(TAP_FIELDS)))
                tap = {name: f.load_i64(taps, b.add(at, f.i64(i))) for i, name in enumerate(TAP_FIELDS)}
                from_ = f.element(x, b.add(source, tap["source"]))
                to = f.element(y, b.add(target, tap["target"]))
                top = f.smaller(last, f.larger(first, tap["top"]))
                bottom = f.larger(top, f.smaller(last, tap["bottom"]))
                self.fill_rows(to, first, top)
                if self.step:
                    self.copy_rows(from_, to, top, bottom, tap["left"], tap["right"])
                else:
                    self.copy_rows_slowly(from_, to, top, bottom, tap["left"], tap["right"])
                self.fill_rows(to, bottom, last)

    def fill_rows(self, to: Value, begin: Value, end: Value) -> None:
        f, b = self.body, self.body.b
        with f.loop(begin, end) as y:
            self.fill_columns(f.element(to, b.mul(y, self.target_row)), f.i64(0), self.w)

    def copy_rows(self, from_: Value, to: Value, begin: Value, end: Value, left: Value, right: Value) -> None:
        """Rows as fills, one masked vector at the left edge, whole vectors, one masked vector at the right, fills.

        What a masked vector needs does not change from row to row: LLVM computes it once.
        """
        f, b = self.body, self.body.b
        lanes = f.i64(self.lanes)
        outside = b.and_(left, f.i64(-self.lanes))
        edge = b.icmp_signed(">", left, outside)
        start = b.select(edge, b.add(outside, lanes), outside)
        rest = b.add(start, b.and_(f.larger(f.i64(0), b.sub(right, start)), f.i64(-self.lanes)))
        more = b.icmp_signed("<", rest, self.w)
        with f.loop(begin, end) as y:
            source = f.element(from_, b.mul(y, self.source_row))
            target = f.element(to, b.mul(y, self.target_row))
            self.fill_columns(target, f.i64(0), outside)
            with f.if_(edge):
                self.copy_part(source, target, outside, left, right)
            with f.loop(start, rest, self.lanes) as x:
                f.store(self.load_whole(source, x), target, x)
            with f.if_(more):
                self.copy_part(source, target, rest, left, right)
            self.fill_columns(target, b.add(rest, lanes), self.w)

    def fill_columns(self, row: Value, begin: Value, end: Value) -> None:
        f, b = self.body, self.body.b
        with f.loop(begin, end, self.lanes) as x:
            f.store_masked(f.first_lanes(b.sub(self.w, x)), self.fills, row, x)

    def copy_part(self, source: Value, target: Value, x: Value, left: Value, right: Value) -> None:
        f, b = self.body, self.body.b
        value = self.load_part(source, x, left, right)
        f.store_masked(f.first_lanes(b.sub(self.w, x)), value, target, x)

    def load_whole(self, source: Value, x: Value) -> Value:
        f, b = self.body, self.body.b
        if self.step == 1:
            return f.load(source, x)
        # The second load ends with the last element needed: nothing behind a caller's array is read.
        at = b.mul(x, f.i64(2))
        even, odd = f.load(source, at), f.load(source, b.add(at, f.i64(self.lanes - 1)))
        return self.every_second(even, odd)

    def load_part(self, source: Value, x: Value, left: Value, right: Value) -> Value:
        """Lanes whose columns lie in [left, right), `fill` elsewhere."""
        f, b = self.body, self.body.b
        if self.step == 1:
            return self.load_between(source, x, b.sub(left, x), b.sub(right, x))
        two = f.i64(2)
        at = b.mul(x, two)
        low, high = b.mul(b.sub(left, x), two), b.sub(b.mul(b.sub(right, x), two), f.i64(1))
        even = self.load_between(source, at, low, high)
        back = f.i64(self.lanes - 1)
        odd = self.load_between(source, b.add(at, back), b.sub(low, back), b.sub(high, back))
        return self.every_second(even, odd)

    def load_between(self, source: Value, at: Value, low: Value, high: Value) -> Value:
        f, b = self.body, self.body.b
        mask = b.and_(f.lanes_from(low), f.first_lanes(high))
        return f.load_masked(mask, source, at, self.fill)

    def every_second(self, even: Value, odd: Value) -> Value:
        """Elements 0, 2, 4, ... of memory, of which `odd` was loaded one element less than a vector further on."""
        half = self.lanes // 2
        return self.body.shuffle(even, odd, [2 * i if i < half else 2 * i + 1 for i in range(self.lanes)])

    def copy_rows_slowly(self, from_: Value, to: Value, begin: Value, end: Value, left: Value, right: Value) -> None:
        f, b = self.body, self.body.b
        with f.loop(begin, end) as y:
            source = f.element(from_, b.mul(y, self.source_row))
            target = f.element(to, b.mul(y, self.target_row))
            with f.loop(0, self.w) as x:
                inside = b.and_(b.icmp_signed(">=", x, left), b.icmp_signed("<", x, right))
                value = f.var(F32, self.fill)
                with f.if_(inside):
                    value.set(f.load_scalar(source, b.mul(x, self.columns)))
                f.store_scalar(value.get(), target, x)
