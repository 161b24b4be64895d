"""What kernels that walk along rows touch."""

from collections.abc import Iterator

from secateur.engine.extents.extent import Extent, Fault, Reader, extents_of, floats, span
from secateur.engine.kernels.elementwise import Elementwise
from secateur.engine.kernels.layer_norm import LayerNorm
from secateur.engine.kernels.mean import MeanColumns, MeanRows
from secateur.engine.kernels.softmax import SoftmaxColumns, SoftmaxRows
from secateur.engine.layout import next_multiple


@extents_of(Elementwise)
def elementwise(step: Reader) -> Iterator[Extent]:
    """Rows of any tensors; planes as whole vectors."""
    rows, end = step.rows("parts"), step.end("length", "part", "parts")
    if step.kernel.masked:
        if step.integer("parts") > 1 and step.integer("part") % step.lanes:
            raise Fault(f"'part' is {step.integer('part')}, no multiple of {step.lanes}")
        end = next_multiple(end, step.lanes)
        yield Extent("masks", 0, 2 * (end // step.lanes))
    yield floats("y", step.table("targets", rows), 0, end, write=True)
    for i, kind in enumerate(step.kernel.operands):
        yield floats(f"x{i}", step.table(f"offsets{i}", rows), 0, end if kind == "full" else 1)


@extents_of(LayerNorm)
def layer_norm(step: Reader) -> Iterator[Extent]:
    """Whole rows."""
    length = step.integer("length")
    yield from _rows(step, length)
    yield floats("scale", 0, 0, length)
    if step.kernel.biased:
        yield floats("bias", 0, 0, length)


@extents_of(SoftmaxRows)
def softmax_rows(step: Reader) -> Iterator[Extent]:
    """Whole rows."""
    return _rows(step, step.integer("length"))


@extents_of(MeanRows)
def mean_rows(step: Reader) -> Iterator[Extent]:
    """Whole rows; one number each."""
    yield floats("x", step.table("sources", step.units), 0, step.integer("length"))
    yield floats("y", step.table("targets", step.units), 0, 1, write=True)


@extents_of(SoftmaxColumns)
def softmax_columns(step: Reader) -> Iterator[Extent]:
    """Rows a step apart."""
    rows, end, count = step.rows("parts"), step.end("length", "part", "parts"), step.integer("count")
    for field, table, distance in (("x", "sources", "source_step"), ("y", "targets", "target_step")):
        low, high = span((step.integer(distance), count))
        yield floats(field, step.table(table, rows), low, high + end, write=field == "y")


@extents_of(MeanColumns)
def mean_columns(step: Reader) -> Iterator[Extent]:
    """Rows a step apart; one row of means."""
    rows, end = step.rows("parts"), step.end("length", "part", "parts")
    low, high = span((step.integer("step"), step.integer("rows")))
    yield floats("x", step.table("sources", rows), low, high + end)
    yield floats("y", step.table("targets", rows), 0, end, write=True)


def _rows(step: Reader, length: int) -> Iterator[Extent]:
    yield floats("x", step.table("sources", step.units), 0, length)
    yield floats("y", step.table("targets", step.units), 0, length, write=True)
