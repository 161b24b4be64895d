"""What kernels touch that round floats to pairs of bf16 numbers."""

from collections.abc import Iterator

import numpy as np

from secateur.engine.extents.extent import Extent, Fault, Reader, extents_of, floats
from secateur.engine.kernels.pairs import PairPlanes, PairRows
from secateur.engine.layout import next_multiple


@extents_of(PairPlanes)
def pair_planes(step: Reader) -> Iterator[Extent]:
    """Whole vectors of planes."""
    planes = step.rows("parts")
    if step.integer("parts") > 1 and step.integer("part") % step.lanes:
        raise Fault(f"'part' is {step.integer('part')}, no multiple of {step.lanes}")
    end = next_multiple(step.end("length", "part", "parts"), step.lanes)
    yield floats("x", step.table("sources", 2 * planes), 0, end)
    yield floats("y", step.table("targets", planes), 0, end, write=True)
    step.table("masks", planes, np.int32)


@extents_of(PairRows)
def pair_rows(step: Reader) -> Iterator[Extent]:
    """Rows of floats, and of pairs."""
    inputs, pairs = step.integers("inputs", "pairs")
    if pairs != -(-inputs // 2):
        raise Fault(f"'pairs' is {pairs}; {inputs} inputs are {-(-inputs // 2)}")
    yield floats("x", 0, 0, step.units * inputs)
    yield floats("y", 0, 0, step.units * pairs, write=True)
