"""A part of a network in ONNX Runtime, which is imported when a network needs it."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from secateur.errors import EngineError
from secateur.graph.ir import Graph
from secateur.graph.to_onnx import to_onnx


class FallbackPart:
    """Nodes that have no kernel of ours, as an ONNX Runtime session.

    alone     it is the whole network, so its threads need not make way for ours between two parts
    raises    EngineError  when ONNX Runtime is missing or cannot run the nodes
    """

    def __init__(self, graph: Graph, threads: int, *, alone: bool = False) -> None:
        try:
            onnxruntime: Any = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise EngineError(
                f"{_some_nodes(graph)} have no kernel here, and ONNX Runtime, which would run them, cannot be "
                f"imported: {error}. Install it: pip install onnxruntime."
            ) from error
        self.graph = graph.with_nodes(graph.nodes, constants={})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if alone:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        else:
            # Spinning workers would take the cores from our own between two parts.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(
                to_onnx(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise EngineError(f"ONNX Runtime cannot run {_some_nodes(graph)} either: {_first_line(error)}.") from error

    @property
    def inputs(self) -> tuple[str, ...]:
        """Values that the part reads."""
        return self.graph.inputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The part's outputs. raises EngineError when an operator fails on these values."""
        try:
            values: list[np.ndarray] = self._session.run(list(self.graph.outputs), dict(feeds))
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise EngineError(
                f"ONNX Runtime, which runs {_some_nodes(self.graph)}, failed: {_first_line(error)}."
            ) from (error)
        return dict(zip(self.graph.outputs, values, strict=True))


def _some_nodes(graph: Graph, most: int = 4) -> str:
    names = ", ".join(f"{node.name} ({node.op})" for node in graph.nodes[:most])
    more = len(graph.nodes) - most
    return f"{names} and {more} more nodes" if more > 0 else names


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__).rstrip(".")
