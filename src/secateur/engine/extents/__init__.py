"""Which memory a step touches, kernel by kernel, for the proof in engine.validate."""

from secateur.engine.extents import conv, copies, maps, pairs, products, quads, rows
from secateur.engine.extents.extent import Common, Extent, Fault, described, extents

__all__ = [
    "Common",
    "Extent",
    "Fault",
    "conv",
    "copies",
    "described",
    "extents",
    "maps",
    "pairs",
    "products",
    "quads",
    "rows",
]
