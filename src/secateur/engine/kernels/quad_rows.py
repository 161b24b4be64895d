"""Row by row from four planes to a plane of quads, and back: the loops that kernels of such planes share.

The kernel has the fields x, y, sources, targets, parts, rows, h, source_row and target_row; a unit is a part of `rows`
rows of one plane of quads.
"""

from collections.abc import Callable, Iterator

from secateur.engine.emit.builder import KernelBody, Value

# In tables over channels: one that a last quad lacks.
MISSING = -1
FIELDS = ("x", "y", "sources", "targets", "parts", "rows", "h", "w", "source_row", "target_row")

# A pointer so many bytes, or elements, further on.
Place = Callable[[Value, Value], Value]


def rows_together(f: KernelBody, source: Place) -> Iterator[tuple[list[Value], Value]]:
    """The body of a loop, to be written once: (beginnings of a row of the four planes, of the row of quads).

    `sources` has four entries a plane, in the units of `source`; `targets` one, in quads.
    """
    b = f.b
    x, y, sources, targets = (f.pointer(name) for name in FIELDS[:4])
    source_row, target_row = f.integer("source_row"), f.integer("target_row")
    with f.loop(f.begin, f.end) as unit:
        plane, first, last = plane_rows(f, unit)
        at = b.mul(plane, f.i64(4))
        from_ = [source(x, f.load_i64(sources, b.add(at, f.i64(j)))) for j in range(4)]
        to = f.element(y, f.load_i64(targets, plane))
        with f.loop(first, last) as row:
            yield [source(start, b.mul(row, source_row)) for start in from_], f.element(to, b.mul(row, target_row))


def rows_apart(f: KernelBody, target: Place) -> Iterator[tuple[int, Value, Value]]:
    """The bodies of four loops, one a channel: (its number in the quad, beginning of the row of quads, of its own row).

    `sources` has one entry a plane, in quads; `targets` four, in the units of `target`, MISSING for channels that are
    not there.
    """
    b = f.b
    x, y, sources, targets = (f.pointer(name) for name in FIELDS[:4])
    source_row, target_row = f.integer("source_row"), f.integer("target_row")
    with f.loop(f.begin, f.end) as unit:
        plane, first, last = plane_rows(f, unit)
        from_ = f.element(x, f.load_i64(sources, plane))
        for j in range(4):
            place = f.load_i64(targets, b.add(b.mul(plane, f.i64(4)), f.i64(j)))
            with f.if_(b.icmp_signed(">=", place, f.i64(0))), f.loop(first, last) as row:
                yield j, f.element(from_, b.mul(row, source_row)), target(target(y, place), b.mul(row, target_row))


def plane_rows(f: KernelBody, unit: Value) -> tuple[Value, Value, Value]:
    """The plane of a unit, its first row, and the one behind its last."""
    b = f.b
    parts, rows = f.integer("parts"), f.integer("rows")
    first = b.mul(b.srem(unit, parts), rows)
    return b.sdiv(unit, parts), first, f.smaller(f.integer("h"), b.add(first, rows))
