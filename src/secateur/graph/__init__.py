"""Networks as data: what a model file holds, counted without torch."""

from secateur.graph.census import BASES, Base, BaseCount, Census, Kind, LayerCount
from secateur.graph.structure import StructureRow, StructureTable, structure_table

__all__ = [
    "BASES",
    "Base",
    "BaseCount",
    "Census",
    "Kind",
    "LayerCount",
    "StructureRow",
    "StructureTable",
    "structure_table",
]
