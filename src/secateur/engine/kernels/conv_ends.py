"""The end of a panel: residual, activation, requantization, and zeros outside the map."""

from secateur.engine.emit.activations import activate
from secateur.engine.emit.builder import I32, Value, Var
from secateur.engine.emit.byte_planes import TOGETHER, in_blocks, in_order
from secateur.engine.kernels.conv_body import ConvBody
from secateur.engine.kernels.requantize import Results


class Ends:
    """Writes what the sums of a panel and a tile become."""

    def __init__(self, body: ConvBody) -> None:
        self.body = body
        self.f, self.kernel, self.pointers = body.f, body.kernel, body.pointers

    def finish(
        self,
        tile: dict[str, Value],
        row: Value,
        y: Value,
        acc: list[list[Var]],
        masks: list[Value],
        vectors: int,
    ) -> None:
        """Store the sums: as they are between blocks, else after residual and activation."""
        f = self.f
        for r, sums in enumerate(acc):
            if self.kernel.of_bytes and vectors > 1:
                for value, found in zip(sums, in_order(f, [value.get() for value in sums]), strict=True):
                    value.set(found)
                sums = sums[:vectors]
            place = self.body.row_address(row, r)
            with f.if_(f.b.icmp_signed(">=", place, f.i64(0))):
                target = f.at(y, place)
                if not self.kernel.partial:
                    self.store_final(sums, tile, place, target, masks, row, r)
                    continue
                with f.b.if_else(self.body.flag("last")) as (then, otherwise):
                    with then:
                        self.store_final(sums, tile, place, target, masks, row, r)
                    with otherwise:
                        # Padding stays zero between blocks too: behind a tensor's last plane it is the padding above
                        # the next tensor in memory, which another thread may be reading.
                        for v, value in enumerate(sums):
                            kept = self.inside(masks, v, value.get(), f.splat(0.0))
                            f.store(kept, target, v * f.lanes, align=self.body.width)

    def store_final(
        self,
        sums: list[Var],
        tile: dict[str, Value],
        place: Value,
        target: Value,
        masks: list[Value],
        row: Value,
        r: int,
    ) -> None:
        """Residual, activation, zeros outside the map."""
        f = self.f
        slope = self.slope(row, r)
        other = self.body.residual_row(tile, row, r, place) if self.kernel.residual else None
        scale = self.scale(row, r) if self.body.results else None
        for v, value in enumerate(sums):
            out = value.get()
            added = f.load(other, v * f.lanes, self.body.width, self.body.type) if other is not None else None
            if self.body.results:
                other_part = None if added is None else self.body.results.added(added)[r % 4]
                out = self.body.results.row(out, scale, other_part, slope)
            else:
                out = out if added is None else f.b.fadd(out, added)
                out = activate(f, out, self.kernel.activation, slope)
            f.store(self.inside(masks, v, out, f.splat(0.0)), target, v * f.lanes, align=self.body.width)

    def store_quads(
        self,
        results: Results,
        tile: dict[str, Value],
        row: Value,
        y: Value,
        acc: list[list[Var]],
        masks: list[Value],
        vectors: int,
    ) -> None:
        """The results of four rows at a time as quads."""
        f = self.f
        for first in range(0, self.kernel.rows, 4):
            place = self.body.row_address(row, first)
            with f.if_(f.b.icmp_signed(">=", place, f.i64(0))):
                other = self.body.residual_row(tile, row, first, place) if self.kernel.residual else None
                self._store_four(results, row, first, f.at(y, place), other, acc[first : first + 4], masks, vectors)

    def _store_four(
        self,
        results: Results,
        row: Value,
        first: int,
        target: Value,
        other: Value | None,
        acc: list[list[Var]],
        masks: list[Value],
        vectors: int,
    ) -> None:
        """Rows first to first + 3 of a panel.

        other    address of the residual
        """
        f = self.f
        scales = [self.scale(row, first + r) for r in range(4)]
        slopes = [self.slope(row, first + r) for r in range(4)]

        def residual(v: int) -> Value | None:
            return None if other is None else f.load(other, v * f.lanes, self.body.width, I32)

        def made(v: int, word: Value | None) -> Value:
            added = [None] * 4 if word is None else results.added(word)
            rows = [results.row(acc[r][v].get(), scales[r], added[r], slopes[r]) for r in range(4)]
            return results.quads(rows)

        def store(v: int, quads: Value) -> None:
            kept = self.inside(masks, v, quads, results.fill())
            f.store(kept, target, v * f.lanes, align=self.body.width)

        if not self.kernel.of_bytes or vectors == 1:
            for v in range(vectors):
                store(v, made(v, residual(v)))
            return
        words = [residual(min(v, vectors - 1)) for v in range(TOGETHER)]
        words = words if other is None else in_blocks(f, words)
        for v, quads in enumerate(in_order(f, [made(v, word) for v, word in enumerate(words)])[:vectors]):
            store(v, quads)

    def scale(self, row: Value, r: int) -> Value:
        """Scale of a panel's row r, for all lanes."""
        return self.f.splat(self.f.load_scalar(self.f.pointer("scales"), self.f.b.add(row, self.f.i64(r))))

    def slope(self, row: Value, r: int) -> Value:
        """Slope of a panel's row r for negative values, where the activation has one."""
        if self.kernel.activation and self.kernel.activation.kind == "prelu":
            return self.f.splat(self.f.load_scalar(self.f.pointer("slope"), self.f.b.add(row, self.f.i64(r))))
        return None

    def inside(self, masks: list[Value], v: int, value: Value, zero: Value) -> Value:
        """Vector v of a tile with zeros outside the map."""
        return self.f.b.select(masks[v], value, zero) if masks else value
