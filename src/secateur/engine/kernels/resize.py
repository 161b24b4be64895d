"""Resizing of maps: every output is a weighted sum of a few rows and columns.

    out[y, x] = sum_i sum_j row_weights[y, i] column_weights[j, x] in[row(y, i), column(j, x)]        i, j < taps

Each output row: the weighted sum of its source rows in scratch memory, then along it. With one tap (nearest) elements
are copied as they are; columns that are all doubled need no table.
"""

from dataclasses import dataclass

from llvmlite import ir

from secateur.engine.emit.builder import I32, KernelBody, KernelModule, Value
from secateur.engine.emit.sweep import Block, sweep


@dataclass(frozen=True)
class Resize:
    """Units are parts of `rows` output rows of a plane.

    taps       rows and columns of the input that an output depends on: 1 nearest, 2 linear, 4 cubic
    doubled    every column of the input is written twice (taps = 1)
    """

    taps: int
    doubled: bool = False

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_resize_{self.taps}{'_doubled' if self.doubled else ''}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: planes (i64); source rows (i64 elements) and weights per output row and tap; columns (i32) and
        weights per tap and output column, `stride` entries from tap to tap, a multiple of 16."""
        return (
            *("x", "y", "sources", "targets", "row_places", "row_weights", "columns", "column_weights"),
            *("parts", "rows", "w", "out_h", "out_w", "target_row", "stride"),
        )

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets, places = (f.pointer(name) for name in self.fields[:5])
            parts, rows, out_h, target_row = (f.integer(name) for name in ("parts", "rows", "out_h", "target_row"))
            with f.loop(f.begin, f.end) as unit:
                plane = b.sdiv(unit, parts)
                first = b.mul(b.srem(unit, parts), rows)
                last = f.smaller(out_h, b.add(first, rows))
                source, target = f.element(x, f.load_i64(sources, plane)), f.element(y, f.load_i64(targets, plane))
                with f.loop(first, last) as row:
                    tap = b.mul(row, f.i64(self.taps))
                    lines = [f.element(source, f.load_i64(places, b.add(tap, f.i64(i)))) for i in range(self.taps)]
                    to = f.element(target, b.mul(row, target_row))
                    if self.doubled:
                        self._double(f, lines[0], to)
                    else:
                        self._along(f, lines[0] if self.taps == 1 else self._down(f, lines, tap), to)

    def _down(self, f: KernelBody, lines: list[Value], tap: Value) -> Value:
        """The weighted sum of rows, in scratch memory."""
        weights = f.element(f.pointer("row_weights"), tap)
        factors = [f.splat(f.load_scalar(weights, i)) for i in range(self.taps)]

        def add(block: Block) -> None:
            total = f.b.fmul(block.load(lines[0]), factors[0])
            for line, factor in zip(lines[1:], factors[1:], strict=True):
                total = f.fma(block.load(line), factor, total)
            f.store(total, f.scratch, block.index)

        sweep(f, 0, f.integer("w"), add)
        return f.scratch

    def _along(self, f: KernelBody, line: Value, target: Value) -> None:
        columns, weights, stride = f.pointer("columns"), f.pointer("column_weights"), f.integer("stride")
        indices = ir.VectorType(I32, f.lanes)

        def gather(block: Block) -> None:
            total = f.splat(0.0)
            for j in range(self.taps):
                at = f.b.add(block.index, f.b.mul(stride, f.i64(j)))
                value = f.gather(line, f.b.load(f.element(columns, at, I32), typ=indices, align=4))
                total = value if self.taps == 1 else f.fma(value, f.load(weights, at), total)
            block.store(total, target)

        sweep(f, 0, f.integer("out_w"), gather)

    def _double(self, f: KernelBody, line: Value, target: Value) -> None:
        b, lanes = f.b, f.lanes
        out_w = f.integer("out_w")

        def double(block: Block) -> None:
            value = block.load(line)
            for half in range(2):
                at = b.add(b.mul(block.index, f.i64(2)), f.i64(half * lanes))
                copies = f.shuffle(value, value, [(half * lanes + i) // 2 for i in range(lanes)])
                if block.mask is None:
                    f.store(copies, target, at)
                else:
                    f.store_masked(f.first_lanes(b.sub(out_w, at)), copies, target, at)

        sweep(f, 0, f.integer("w"), double)
