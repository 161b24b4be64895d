"""A network compiled for one set of input shapes: parts that run one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from secateur.engine.compile import lower
from secateur.engine.facts import LayerFacts
from secateur.engine.fallback import FallbackPart
from secateur.engine.lowering.context import Chooser
from secateur.engine.native import NativeProgram
from secateur.engine.partition import partition
from secateur.engine.target import Target
from secateur.graph.ir import Graph


@dataclass(frozen=True)
class Plan:
    """Parts in order.

    layers    facts about convolutions and matrix products that run natively
    refused   node -> why it runs in ONNX Runtime
    """

    graph: Graph
    parts: tuple[NativeProgram | FallbackPart, ...]
    layers: tuple[LayerFacts, ...]
    refused: Mapping[str, str]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of the network."""
        if len(self.parts) == 1:
            return self.parts[0].run(feeds)
        values = dict(feeds)
        for part in self.parts:
            values |= part.run({name: values[name] for name in part.inputs})
        return {name: values[name] for name in self.graph.outputs}

    def close(self) -> None:
        """Free the native programs."""
        for part in self.parts:
            part.close()


def make_plan(graph: Graph, target: Target, threads: int, choose: Chooser) -> Plan:
    """Compile a simplified graph."""
    divided = partition(graph)
    parts: list[NativeProgram | FallbackPart] = []
    layers: list[LayerFacts] = []
    for part in divided.parts:
        if part.native:
            program, facts = lower(part.graph, target, threads, choose)
            parts.append(NativeProgram(program, target, threads))
            layers += facts
        else:
            parts.append(FallbackPart(part.graph, threads))
    return Plan(graph, tuple(parts), tuple(layers), divided.refused)
