"""A network compiled for one shape of its inputs: parts that run one after the other."""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import numpy as np

from secateur.engine.batches import in_parts
from secateur.engine.compile import lower
from secateur.engine.constants import Constants
from secateur.engine.delegate import can_delegate, race, random_feeds
from secateur.engine.facts import LayerFacts
from secateur.engine.fallback import FallbackPart
from secateur.engine.native import NativeProgram
from secateur.engine.options import Options
from secateur.engine.partition import partition
from secateur.engine.program import Kernel
from secateur.engine.target import Target
from secateur.graph.ir import Graph


@dataclass(frozen=True)
class NativePart:
    """Nodes that run on our kernels.

    repeats    how often the program runs, on one part of the batch after the other
    """

    program: NativeProgram
    inputs: tuple[str, ...]
    repeats: int = 1

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The part's outputs."""
        if self.repeats == 1:
            return self.program.run(feeds)
        ports = self.program.program.outputs
        results = {port.name: np.empty((port.shape[0] * self.repeats, *port.shape[1:]), port.dtype) for port in ports}
        for index in range(self.repeats):
            self.program.run(self._part(feeds, index), self._part(results, index))
        return results

    def seconds(self, feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
        """Time of every step of the program, all repeats together."""
        spent = self.program.profile(self._part(feeds, 0), rounds)
        return [self.repeats * value for value in spent]

    def _part(self, arrays: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
        length = {name: len(array) // self.repeats for name, array in arrays.items()}
        return {name: array[index * length[name] : (index + 1) * length[name]] for name, array in arrays.items()}


@dataclass(frozen=True)
class Plan:
    """Parts in order.

    outputs    of the network
    layers     facts about convolutions and matrix products that run natively
    operators  node -> operator, of everything that runs natively
    refused    node -> operator and why it runs in ONNX Runtime
    delegated  why ONNX Runtime runs the whole network, "" where it does not
    floats     node -> why it computes with floats in a quantized network
    """

    batch: int
    outputs: tuple[str, ...]
    parts: tuple[NativePart | FallbackPart, ...]
    layers: tuple[LayerFacts, ...]
    operators: Mapping[str, str]
    refused: Mapping[str, tuple[str, str]]
    delegated: str = ""
    floats: Mapping[str, str] = field(default_factory=dict[str, str])

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of the network, in its order. Inputs that nothing reads are ignored."""
        values = dict(feeds)
        for part in self.parts:
            values |= part.run({name: values[name] for name in part.inputs})
        return {name: values[name] for name in self.outputs}

    def kernels(self) -> dict[str, Kernel]:
        """Every kernel that the plan calls, by name, in order of first use."""
        programs = [part.program.program for part in self.parts if isinstance(part, NativePart)]
        return {step.kernel.name: step.kernel for program in programs for step in program.steps}


def make_plan(graph: Graph, target: Target, options: Options) -> Plan:
    """Compile a graph in normal form, which loses its constants on the way: weights are not kept twice.

    Where it is tuned, and nothing was asked that only our kernels do, ONNX Runtime gets it if it is clearly faster
    (delegate.py).
    """
    asked = options.primitive != "auto" or options.format != "auto" or options.denormals != "keep"
    asked = asked or options.precision != "float32"
    if not options.tune or asked or not can_delegate():
        return _native_plan(graph, target, options)
    plan = _native_plan(replace(graph, constants=dict(graph.constants)), target, options)
    if not any(isinstance(part, NativePart) for part in plan.parts):
        return plan
    whole = FallbackPart(graph, options.threads, alone=True)
    feeds = random_feeds(graph)
    delegated = race(lambda: plan.run(feeds), lambda: whole.run(feeds)).verdict()
    return Plan(plan.batch, plan.outputs, (whole,), (), {}, {}, delegated) if delegated else plan


def _native_plan(graph: Graph, target: Target, options: Options) -> Plan:
    divided = partition(graph)
    _forget(graph, [part.graph for part in divided.parts])
    choose = options.chooser(target)
    parts: list[NativePart | FallbackPart] = []
    layers: list[LayerFacts] = []
    for part in divided.parts:
        if not part.native:
            parts.append(FallbackPart(part.graph, options.threads, alone=len(divided.parts) == 1))
            continue
        pieces = in_parts(part.graph, target)
        _forget(part.graph, [piece.graph for piece in pieces])
        for piece in pieces:
            weights = sum(array.nbytes for array in piece.graph.constants.values())
            constants = Constants(weights + weights // 8)
            how = {"zeros": options.format != "dense", "bf16": options.precision == "bf16"}
            program, facts = lower(piece.graph, target, options.threads, choose, constants, **how)
            native = NativeProgram(program, target, options.threads, denormals=options.denormals, constants=constants)
            parts.append(NativePart(native, piece.graph.inputs, piece.repeats))
            layers += [fact.repeated(piece.repeats) for fact in facts]
    batch = next((graph.shape(name)[0] for name in graph.inputs if name in graph.types and graph.shape(name)), 1)
    operators = {node.name: node.op for node in graph.nodes if node.name not in divided.refused}
    refused = {node.name: (node.op, divided.refused[node.name]) for node in graph.nodes if node.name in divided.refused}
    return Plan(batch, graph.outputs, tuple(parts), tuple(layers), operators, refused, floats=graph.notes)


def _forget(graph: Graph, divided: Iterable[Graph]) -> None:
    """Drop the constants of a graph whose parts have their own."""
    constants = graph.constants
    if isinstance(constants, MutableMapping) and all(part.constants is not constants for part in divided):
        constants.clear()
