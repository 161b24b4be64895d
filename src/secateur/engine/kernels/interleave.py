"""Phases of maps put together.

    target[q sh + p, r sw + s] = source[p phase_row + s phase_column + q source_row + r]      inside h x w

A unit is a part of the rows of one result plane. Padding of the target between rows and planes is not touched.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelBody, KernelModule, Value

# Wider strides need more shuffles than copying single elements costs.
MOST_SHUFFLED = 4


@dataclass(frozen=True)
class Interleave:
    """Units are parts of `rows` rows of the planes of a table.

    columns   phases per row, 1 to MOST_SHUFFLED; 0: any number
    """

    columns: int

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_interleave_{self.columns or 'any'}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables `sources` and `targets` are i64 per result plane; everything else is in elements."""
        return (
            *("x", "y", "sources", "targets", "parts", "rows", "h", "w", "source_row", "target_row"),
            *("phase_row", "phase_column", "stride_h", "stride_w"),
        )

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            parts, rows, h, w, source_row, target_row, phase_row, _, stride_h, _ = (
                f.integer(name) for name in self.fields[4:]
            )
            with f.loop(f.begin, f.end) as unit:
                plane, first = b.sdiv(unit, parts), b.mul(b.srem(unit, parts), rows)
                source, target = f.load_i64(sources, plane), f.load_i64(targets, plane)
                with f.loop(first, f.smaller(h, b.add(first, rows))) as row:
                    from_ = b.add(b.mul(b.srem(row, stride_h), phase_row), b.mul(b.sdiv(row, stride_h), source_row))
                    start = f.element(x, b.add(source, from_))
                    end = f.element(y, b.add(target, b.mul(row, target_row)))
                    (self._vectors if self.columns else self._elements)(f, start, end, w)

    def _vectors(self, f: KernelBody, source: Value, target: Value, w: Value) -> None:
        """One vector of each phase becomes `columns` vectors of the row."""
        b, lanes, columns = f.b, f.lanes, self.columns
        count = b.sdiv(b.add(w, f.i64(columns - 1)), f.i64(columns))
        with f.loop(0, count, lanes) as i:
            inside = f.first_lanes(b.sub(count, i))
            phases = [
                f.load_masked(inside, source, b.add(i, b.mul(f.integer("phase_column"), f.i64(phase))))
                for phase in range(columns)
            ]
            at = b.mul(i, f.i64(columns))
            for v in range(columns):
                place = b.add(at, f.i64(v * lanes))
                f.store_masked(f.first_lanes(b.sub(w, place)), _interleaved(f, phases, v), target, place)

    def _elements(self, f: KernelBody, source: Value, target: Value, w: Value) -> None:
        b, step = f.b, f.integer("stride_w")
        with f.loop(0, w) as column:
            phase = b.mul(b.srem(column, step), f.integer("phase_column"))
            f.store_scalar(f.load_scalar(source, b.add(phase, b.sdiv(column, step))), target, column)


def _interleaved(f: KernelBody, phases: list[Value], number: int) -> Value:
    """Vector `number` of the elements of several vectors in turns."""
    lanes, count = f.lanes, len(phases)
    result = phases[0]
    for index in range(1, count):
        places: list[int] = []
        for lane in range(lanes):
            element, phase = divmod(number * lanes + lane, count)
            if index == 1 and phase == 0:
                places.append(element)
            else:
                places.append(lanes + element if phase == index else lane)
        result = f.shuffle(result, phases[index], places)
    return result
