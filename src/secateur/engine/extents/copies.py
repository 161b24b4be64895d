"""What copies of elements touch."""

from collections.abc import Iterator

from secateur.engine.extents.extent import Extent, Fault, Reader, extents_of, span
from secateur.engine.kernels.convert import Convert
from secateur.engine.kernels.strided_copy import StridedCopy
from secateur.engine.kernels.transpose import Transpose

_BYTES = {"float32": 4, "int64": 8, "int32": 4, "bool": 1}


@extents_of(Convert)
def convert(step: Reader) -> Iterator[Extent]:
    """Blocks of elements."""
    size, block = step.integers("size", "block")
    count = min(size, step.units * block)
    yield Extent("x", 0, count * _BYTES[step.kernel.source])
    yield Extent("y", 0, count * _BYTES[step.kernel.target], write=True)


@extents_of(StridedCopy)
def strided_copy(step: Reader) -> Iterator[Extent]:
    """Elements one by one."""
    count, length, source_step, target_step, element_step = step.integers(
        "count", "length", "source_step", "target_step", "element_step"
    )
    item: int = step.kernel.item
    for field, table, spans in (
        ("x", "sources", ((source_step, count), (element_step, length))),
        ("y", "targets", ((target_step, count), (1, length))),
    ):
        low, high = span(*spans)
        starts = step.table(table, step.units)
        ends = item * (int(starts.min()) + low), item * (int(starts.max()) + high + 1)
        yield Extent(field, *ends, write=field == "y")


@extents_of(Transpose)
def transpose(step: Reader) -> Iterator[Extent]:
    """Strips of columns."""
    rows, source_step, target_step = step.integers("rows", "source_step", "target_step")
    widths = step.table("widths", step.units)
    if widths.min() < 1 or widths.max() > step.lanes:
        raise Fault(f"'widths' has numbers beyond 1 to {step.lanes}")
    low, high = span((source_step, rows))
    sources = step.table("sources", step.units)
    yield Extent("x", 4 * (int(sources.min()) + low), 4 * (int((sources + widths).max()) + high))
    targets = step.table("targets", step.units)
    if target_step < 0:
        raise Fault(f"'target_step' is {target_step}; it must not be negative")
    furthest = int((targets + (widths - 1) * target_step).max())
    yield Extent("y", 4 * int(targets.min()), 4 * (furthest + rows), write=True)
