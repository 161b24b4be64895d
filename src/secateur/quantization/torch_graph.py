"""A float ONNX file as torch functions, so that gradients flow through any stretch of it.

The file is read into the normal form (graph/passes), with nothing fused, so that every value that a scale table may
name is there. A walk holds the values of all images that later nodes still read and runs node after node; weights can
be replaced by others under the names of their nodes, and what nodes read can be rounded on the way.

    graph = torch_graph(model)
    graph.run(graph.nodes, values, weights={"layer1.conv": learned}, read=rounding)
"""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
import torch
from torch import Tensor

from secateur.errors import QuantizationError
from secateur.graph import Graph, Node, load_graph
from secateur.graph.passes.drop_identity import drop_identity
from secateur.graph.passes.fold_constants import fold_constants
from secateur.graph.passes.normal_activations import normal_activations
from secateur.graph.passes.normal_arithmetic import normal_arithmetic
from secateur.graph.passes.normal_batch_norm import normal_batch_norm
from secateur.graph.passes.normal_convolution import normal_convolution
from secateur.graph.passes.normal_layout import normal_layout
from secateur.graph.passes.normal_linear import normal_linear
from secateur.graph.passes.normal_pooling import normal_pooling
from secateur.graph.passes.normal_reductions import normal_reductions
from secateur.graph.passes.remove_dead import remove_dead
from secateur.graph.rewrite import DOMAIN
from secateur.progress import say
from secateur.quantization.subjects import Batches, as_tensors
from secateur.quantization.torch_functions import FUNCTIONS

LAYERS = ("Conv", "ConvTranspose", "Linear")
# Images that one node computes at once.
CHUNK = 64
MEMORY = 2 << 30

Read = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class TorchGraph:
    """Nodes in order of execution, over values by name.

    source, result    the images, and the first output
    constants         as tensors
    """

    nodes: tuple[Node, ...]
    source: str
    result: str
    constants: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def layers(self) -> tuple[Node, ...]:
        """Convolutions and linear layers with a constant weight."""
        return tuple(node for node in self.nodes if node.op in LAYERS and node.inputs[1] in self.constants)

    @property
    def peak(self) -> int:
        """Bytes of the values that are needed at the same time, at most, for one image."""
        last = {name: index for index, node in enumerate(self.nodes) for name in self.reads(node)}
        live, peak = {self.source: self._bytes(self.source)}, 0
        for index, node in enumerate(self.nodes):
            live |= {name: self._bytes(name) for name in node.outputs}
            peak = max(peak, sum(live.values()))
            live = {name: size for name, size in live.items() if last.get(name, -1) > index}
        return peak

    def _bytes(self, name: str) -> int:
        return 4 * prod(self.shapes.get(name, ()))

    def weight(self, node: Node) -> Tensor:
        """Filter first; a transposed convolution's as it is stored."""
        return self.constants[node.inputs[1]]

    def reads(self, node: Node) -> tuple[str, ...]:
        """The values, constants aside, that a node reads."""
        return tuple(name for name in node.reads() if name not in self.constants)

    def run(
        self,
        nodes: Sequence[Node],
        values: dict[str, Tensor],
        *,
        weights: Mapping[str, Tensor] | None = None,
        read: Read | None = None,
        exact: Collection[tuple[str, str]] = (),
    ) -> None:
        """Execute nodes; their outputs are added to `values`.

        weights    name of a node -> its weight in place of its own
        read       name and value -> what readers of the value get; called once for each value that is read
        exact      (name of a node, value) that is read as it is
        """
        seen: dict[str, Tensor] = {}

        def got(node: str, name: str) -> Tensor:
            if name in self.constants:
                return self.constants[name]
            if read is None or (node, name) in exact:
                return values[name]
            if name not in seen:
                seen[name] = read(name, values[name])
            return seen[name]

        for node in nodes:
            operands = [got(node.name, name) if name else None for name in node.inputs]
            if weights is not None and node.name in weights:
                operands[1] = weights[node.name]
            found = FUNCTIONS[node.op](node.attributes, *operands)
            results = (found,) if isinstance(found, Tensor) else found
            values.update(zip(node.outputs, results, strict=True))


def torch_graph(model: onnx.ModelProto, input_shape: tuple[int, int, int] | None = None) -> TorchGraph:
    """The network of a float ONNX file with one input. raises ModelError; QuantizationError for an operator without a
    torch function."""
    given = None
    if input_shape is not None:
        stored = {tensor.name for tensor in model.graph.initializer}
        given = {value.name: (1, *input_shape) for value in model.graph.input if value.name not in stored}
    graph = _plain(load_graph(model, input_shapes=given))
    for node in graph.nodes:
        if node.domain not in (DOMAIN, "") or node.op not in FUNCTIONS:
            raise QuantizationError(
                f"'{node.name}': {node.op} has no torch function here, so that nothing can be learned through it."
            )
    if len(graph.inputs) != 1:
        raise QuantizationError(f"the model has {len(graph.inputs)} inputs; a network of one image input is needed.")
    constants = {
        name: torch.from_numpy(np.array(array)) for name, array in graph.constants.items() if not array.dtype.hasobject
    }
    shapes = {name: known.shape for name, known in graph.types.items()}
    return TorchGraph(graph.nodes, graph.inputs[0], graph.outputs[0], constants, shapes)


def _plain(graph: Graph) -> Graph:
    """The normal form without anything fused or recognised: all values of the file are still there."""
    passes = (
        fold_constants, normal_activations, normal_arithmetic, normal_batch_norm, normal_convolution, normal_layout,
        normal_linear, normal_pooling, normal_reductions, drop_identity, remove_dead,
    )  # fmt: skip
    for _ in itertools.repeat(None, 20):
        before = graph
        for run in passes:
            graph = run(graph)
        if graph is before:
            break
    return graph


def images_within(graph: TorchGraph, batches: Batches, memory: int = MEMORY) -> Tensor:
    """The first images, as many as two networks can walk with in `memory` bytes, at least two. raises QuantizationError
    when there are none."""
    most = max(2, memory // max(3 * graph.peak, 1))
    parts: list[Tensor] = []
    count = total = 0
    for images in as_tensors(batches)():
        total += len(images)
        if count < most:
            parts.append(images[: most - count])
            count += len(parts[-1])
    if not parts:
        raise QuantizationError("there are no calibration images.")
    if count < total:
        say(f"{count} of the {total} calibration images are used here: as many as fit into {memory / 2**30:.1f} GiB.")
    return torch.cat(parts)


@dataclass
class Walk:
    """The values of all images in one network, node after node; a value is dropped behind its last reader.

    keep    values that stay until they are released
    """

    graph: TorchGraph
    values: dict[str, Tensor]
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    read: Read | None = None
    exact: Collection[tuple[str, str]] = ()
    keep: set[str] = field(default_factory=set[str])
    position: int = 0

    def __post_init__(self) -> None:
        self._last: dict[str, int] = {}
        for index, node in enumerate(self.graph.nodes):
            self._last |= dict.fromkeys(self.graph.reads(node), index)

    @torch.no_grad()
    def to(self, position: int) -> None:
        """Run the nodes before `position`."""
        while self.position < position:
            node = self.graph.nodes[self.position]
            parts: dict[str, list[Tensor]] = {name: [] for name in node.outputs}
            reads = self.graph.reads(node)
            images = len(self.values[reads[0]])
            for start in range(0, images, CHUNK):
                own = {name: self.values[name][start : start + CHUNK] for name in reads}
                self.graph.run([node], own, weights=self.weights, read=self.read, exact=self.exact)
                for name in node.outputs:
                    parts[name].append(own[name])
            self.values.update({name: torch.cat(part) for name, part in parts.items()})
            self.position += 1
            self._drop()

    def release(self, name: str) -> None:
        """The value will not be asked for again."""
        self.keep.discard(name)
        self._drop()

    def _drop(self) -> None:
        needed = self.keep | {self.graph.result}
        for name in [name for name in self.values if name not in needed]:
            if self._last.get(name, -1) < self.position:
                del self.values[name]
