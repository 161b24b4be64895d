"""Products of matrices that are both computed while the network runs.

    y[i, j] = sum_k a[i, k] b[k, j]

A tile of rows x vectors sums stays in registers; each step multiplies broadcast elements of a by vectors of b. At the
lower edge the last row is computed more than once, at the right edge vectors are masked.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelBody, KernelModule, Value


@dataclass(frozen=True)
class MatMul:
    """Units are blocks of `rows` rows of one product of the tables.

    rows, vectors    register tile
    """

    rows: int
    vectors: int

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_matmul_{self.rows}x{self.vectors}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: first elements of the matrices (i64); steps from row to row in elements."""
        return (
            *("a", "b", "y", "a_starts", "b_starts", "y_starts", "blocks"),
            *("height", "depth", "width", "a_step", "b_step", "y_step"),
        )

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            arrays = [(f.pointer(name), f.pointer(f"{name}_starts")) for name in ("a", "b", "y")]
            blocks, height, _, width, *_ = (f.integer(name) for name in self.fields[6:])
            columns = f.i64(self.vectors * f.lanes)
            with f.loop(f.begin, f.end) as unit:
                product = b.sdiv(unit, blocks)
                first = b.mul(b.srem(unit, blocks), f.i64(self.rows))
                bases = [f.element(array, f.load_i64(starts, product)) for array, starts in arrays]
                last = b.sub(height, f.i64(1))
                rows = [f.smaller(b.add(first, f.i64(r)), last) for r in range(self.rows)]
                whole = b.mul(b.sdiv(width, columns), columns)
                with f.loop(0, whole, self.vectors * f.lanes) as j:
                    self._tile(f, bases, rows, j, [])
                with f.if_(b.icmp_signed("<", whole, width)):
                    rest = b.sub(width, whole)
                    masks = [f.first_lanes(b.sub(rest, f.i64(v * f.lanes))) for v in range(self.vectors)]
                    self._tile(f, bases, rows, whole, masks)

    def _tile(self, f: KernelBody, bases: list[Value], rows: list[Value], j: Value, masks: list[Value]) -> None:
        b = f.b
        depth, a_step, b_step, y_step = (f.integer(name) for name in ("depth", "a_step", "b_step", "y_step"))
        left, right, result = bases
        lefts = [f.element(left, b.mul(row, a_step)) for row in rows]
        places = [b.add(j, f.i64(v * f.lanes)) for v in range(self.vectors)]
        sums = [[f.var(f.vector, f.splat(0.0)) for _ in places] for _ in rows]
        with f.loop(0, depth) as k:
            line = f.element(right, b.mul(k, b_step))
            vectors = [
                f.load_masked(masks[v], line, place) if masks else f.load(line, place) for v, place in enumerate(places)
            ]
            for r, row in enumerate(lefts):
                number = f.splat(f.load_scalar(row, k))
                for v, vector in enumerate(vectors):
                    sums[r][v].set(f.fma(number, vector, sums[r][v].get()))
        for r, row in enumerate(rows):
            target = f.element(result, b.mul(row, y_step))
            for v, place in enumerate(places):
                if masks:
                    f.store_masked(masks[v], sums[r][v].get(), target, place)
                else:
                    f.store(sums[r][v].get(), target, place)
