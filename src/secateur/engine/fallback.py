"""A part of a network in ONNX Runtime."""

from collections.abc import Mapping

import numpy as np
import onnxruntime

from secateur.errors import EngineError
from secateur.graph.expand import expand
from secateur.graph.ir import Graph
from secateur.graph.to_onnx import to_onnx


class FallbackPart:
    """Nodes that have no kernel of ours, as an ONNX Runtime session."""

    def __init__(self, graph: Graph, threads: int) -> None:
        self.graph = graph.with_nodes(graph.nodes, constants={})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning workers would take the cores from our own between two parts.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        model = to_onnx(expand(graph))
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            nodes = ", ".join(f"{node.name} ({node.op})" for node in graph.nodes[:4])
            raise EngineError(f"ONNX Runtime cannot run {nodes}, for which we have no kernel: {error}") from error

    @property
    def inputs(self) -> tuple[str, ...]:
        """Values that the part reads."""
        return self.graph.inputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The part's outputs."""
        values = self._session.run(list(self.graph.outputs), dict(feeds))
        return dict(zip(self.graph.outputs, values, strict=True))
