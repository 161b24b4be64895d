"""Maximum or average of whole maps.

Padding inside a plane is zero, so sums run over it; maxima look at the mask table. Four vectors of partial results
keep sums of large maps accurate and the processor busy.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelBody, KernelModule, Value
from secateur.engine.emit.reductions import Reduction

ACCUMULATORS = 4


@dataclass(frozen=True)
class GlobalPool:
    """Units are planes; one number each.

    kind    max, max_u8 (of quads of bytes), or sum (an average)
    """

    kind: str

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_global_{self.kind}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Per plane its first element (i64); `length` elements from the first to the last of the map, `count` in it."""
        return ("x", "y", "sources", "masks", "length", "count")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as body:
            b, lanes = body.b, module.lanes
            x, y, sources, masks = (body.pointer(name) for name in self.fields[:4])
            length, count = body.integer("length"), body.number("count")
            reduction = Reduction(self.kind)
            step = ACCUMULATORS * lanes
            blocks = b.and_(length, body.i64(-step))
            whole = b.and_(length, body.i64(-lanes))
            with body.loop(body.begin, body.end) as unit:
                plane = body.element(x, body.load_i64(sources, unit))
                totals = [body.var(body.vector, body.splat(reduction.identity)) for _ in range(ACCUMULATORS)]
                with body.loop(0, blocks, step) as i:
                    for k, total in enumerate(totals):
                        at = b.add(i, body.i64(k * lanes))
                        value = self._inside(body, body.load(plane, at), masks, at)
                        total.set(reduction.combine(body, total.get(), value))
                with body.loop(blocks, whole, lanes) as i:
                    value = self._inside(body, body.load(plane, i), masks, i)
                    totals[0].set(reduction.combine(body, totals[0].get(), value))
                with body.if_(b.icmp_signed("<", whole, length)):
                    mask = body.first_lanes(b.sub(length, whole))
                    value = body.load_masked(mask, plane, whole, reduction.identity)
                    value = self._inside(body, value, masks, whole)
                    totals[1].set(reduction.combine(body, totals[1].get(), value))
                low = reduction.combine(body, totals[0].get(), totals[1].get())
                high = reduction.combine(body, totals[2].get(), totals[3].get())
                result = reduction.fold(body, reduction.combine(body, low, high))
                body.store_scalar(b.fdiv(result, count) if self.kind == "sum" else result, y, unit)

    def _inside(self, body: KernelBody, value: Value, masks: Value, at: Value) -> Value:
        if self.kind == "sum":
            return value
        vector = body.b.sdiv(at, body.i64(body.lanes))
        return body.b.select(body.mask_bits(masks, vector), value, body.splat(Reduction(self.kind).identity))
