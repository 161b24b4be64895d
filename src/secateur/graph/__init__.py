"""Networks as data: what a model file holds, counted without torch, and as a graph that passes rewrite."""

from secateur.graph.base_count import BASES, Base, BaseCount
from secateur.graph.census import Census
from secateur.graph.expand import expand
from secateur.graph.ir import Activation, Graph, Node, TensorType
from secateur.graph.layer_count import Kind, LayerCount
from secateur.graph.load import load_graph
from secateur.graph.onnx_census import census_of_onnx
from secateur.graph.read import check_model, read_model
from secateur.graph.structure import StructureRow, StructureTable, structure_table
from secateur.graph.to_onnx import to_onnx

__all__ = [
    "BASES",
    "Activation",
    "Base",
    "BaseCount",
    "Census",
    "Graph",
    "Kind",
    "LayerCount",
    "Node",
    "StructureRow",
    "StructureTable",
    "TensorType",
    "census_of_onnx",
    "check_model",
    "expand",
    "load_graph",
    "read_model",
    "structure_table",
    "to_onnx",
]
