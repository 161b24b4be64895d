"""The sums of a convolution kernel: what they begin with, and the walk over the positions of a panel."""

from llvmlite import ir

from secateur.engine.emit.builder import I16, I32, I64, PTR, Value, Var
from secateur.engine.emit.byte_planes import TOGETHER
from secateur.engine.emit.integers import dot
from secateur.engine.emit.pairs import pair_dot
from secateur.engine.kernels.conv_body import ConvBody
from secateur.engine.kernels.conv_form import AHEAD, PANEL_FIELDS


class Sums:
    """acc[r][v] of a panel and a tile: vector v of output channel r."""

    def __init__(self, body: ConvBody) -> None:
        self.body = body
        self.f, self.kernel, self.pointers = body.f, body.kernel, body.pointers

    def start(self, row: Value, y: Value, vectors: int) -> list[list[Var]]:
        """acc = bias, or what the block of positions before left in the output.

        Sums of quads begin with the first loop that adds to them: rows that wait for theirs need no registers.
        """
        f = self.f
        # Vectors of bytes give four vectors of sums, of which a short tile stores the first, if it has more than one.
        vectors = TOGETHER if self.kernel.of_bytes and vectors > 1 else vectors
        acc = [[f.var(ir.VectorType(self.body.type, f.lanes)) for _ in range(vectors)] for _ in range(self.kernel.rows)]

        def from_bias() -> None:
            for r, sums in enumerate(acc):
                self.start_row(row, r, sums)

        if self.body.results and (self.kernel.patterns or self.kernel.of_bytes):
            return acc
        if not self.kernel.partial:
            from_bias()
            return acc
        with f.b.if_else(self.body.flag("first")) as (then, otherwise):
            with then:
                from_bias()
            with otherwise:
                for r, sums in enumerate(acc):
                    # A padding row has no memory: it reads the first plane and is never stored.
                    place = self.body.row_address(row, r)
                    place = f.b.select(f.b.icmp_signed("<", place, f.i64(0)), f.i64(0), place)
                    for v, value in enumerate(sums):
                        value.set(f.load(f.at(y, place), v * f.lanes, align=self.body.width))
        return acc

    def start_row(self, row: Value, r: int, sums: list[Var]) -> None:
        """acc = bias for a panel's row r."""
        bias = self.f.splat(self.f.load_scalar(self.pointers["bias"], self.f.b.add(row, self.f.i64(r)), self.body.type))
        for value in sums:
            value.set(bias)

    def accumulate(self, record: Value, start: dict[str, Value], base: Value, acc: list[list[Var]]) -> None:
        """acc += weights times inputs, one straight loop per pattern."""
        f = self.f
        delta = f.var(I64, f.i64(0) if self.kernel.shared_deltas else start["delta"])
        weight = f.var(PTR, f.element(self.pointers["weights"], start["weight"]))
        origin = f.at(base, f.b.mul(start["x"], self.body.unit))
        for i, pattern in enumerate(self.kernel.patterns):
            count = f.load_i64(record, len(PANEL_FIELDS) + i, I32)
            rows = [r for r in range(self.kernel.rows) if pattern >> r & 1]
            for r in rows if self.body.results else ():
                if not any(earlier >> r & 1 for earlier in self.kernel.patterns[:i]):
                    self.start_row(start["row"], r, acc[r])
            x = f.var(PTR, origin)
            ahead = f.var(PTR, f.at(origin, f.b.mul(start["ahead"], self.body.unit))) if self.kernel.prefetch else None
            first = delta.get()
            end = f.b.add(first, count)
            with f.loop(first, end) as position:
                step = f.load_i64(self.pointers["deltas"], position, I16)
                x.set(f.at(x.get(), f.b.mul(step, self.body.unit)))
                if ahead is not None:
                    later = f.load_i64(self.pointers["deltas"], f.b.add(position, f.i64(AHEAD)), I16)
                    ahead.set(f.at(ahead.get(), f.b.mul(later, self.body.unit)))
                    for v in range(len(acc[0])):
                        f.prefetch(f.at(ahead.get(), v * self.body.width))
                inputs = [self.inputs(x.get(), v) for v in range(len(acc[0]))]
                weights = weight.get()
                for j, r in enumerate(rows):
                    w = self.weights(weights, j)
                    for v, value in enumerate(inputs):
                        acc[r][v].set(self.add(w, value, acc[r][v].get()))
                weight.set(f.element(weights, len(rows)))
            delta.set(end)

    def accumulate_in_lockstep(self, record: Value, start: dict[str, Value], base: Value, acc: list[list[Var]]) -> None:
        """acc += weights times inputs, one position of every row in each turn."""
        f, rows = self.f, self.kernel.rows
        origin = f.at(base, f.b.mul(start["x"], self.body.unit))
        deltas = f.element(self.pointers["deltas"], start["delta"], I16)
        weights = f.element(self.pointers["weights"], start["weight"])
        x = [f.var(PTR, origin) for _ in range(rows)]
        with f.loop(0, f.load_i64(record, len(PANEL_FIELDS), I32)) as turn:
            first = f.b.mul(turn, f.i64(rows))
            for r, sums in enumerate(acc):
                step = f.load_i64(deltas, f.b.add(first, f.i64(r)), I16)
                x[r].set(f.at(x[r].get(), f.b.mul(step, self.body.unit)))
                w = self.weights(weights, f.b.add(first, f.i64(r)))
                for v, total in enumerate(sums):
                    total.set(self.add(w, self.inputs(x[r].get(), v), total.get()))

    def inputs(self, x: Value, v: int) -> Value:
        """Vector v of the inputs of a position."""
        return self.f.load(x, v * self.f.lanes, type=self.body.element)

    def weights(self, weights: Value, index: Value | int) -> Value:
        """One weight for all lanes."""
        return self.f.splat(self.f.load_scalar(weights, index, self.body.element))

    def add(self, w: Value, x: Value, total: Value) -> Value:
        """total + w x, for floats, pairs or quads."""
        if self.kernel.pairs:
            return pair_dot(self.f, total, x, w)
        return dot(self.f, total, x, w) if self.body.results else self.f.fma(w, x, total)
