"""Networks as data: what a model file holds, counted without torch."""

from secateur.graph.census import BASES, Base, BaseCount, Census, Kind, LayerCount
from secateur.graph.onnx_census import census_of_onnx
from secateur.graph.read import check_model, read_model
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
    "census_of_onnx",
    "check_model",
    "read_model",
    "structure_table",
]
