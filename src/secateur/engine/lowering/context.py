"""What a lowering works with: where values lie, and the list of steps that grows.

A lowering is a function `lower(node, context)` that reads its inputs with `context.tensor`, asks for the place of its
outputs with `context.place`, and emits steps. It is registered under the operators that it covers:

    @lowers("Softmax")
    def softmax(node: Node, context: Context) -> None: ...

Float32 values of rank 4 whose maps are larger than 1x1 lie in planes where operators on maps read or write them,
everything else is flat. All values of one map size have the same pitch, so that element-wise operators, 1x1
convolutions and residual sums need no conversion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from secateur.engine.choice import Choice
from secateur.engine.facts import LayerFacts
from secateur.engine.layout import Flat, Layout, Planes, Tiled, planes
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.program import Address, Argument, Buffer, Kernel, Step
from secateur.engine.target import Target
from secateur.engine.weights.pattern import Pattern, detect
from secateur.graph.ir import Graph, Node
from secateur.registry import Registry


@dataclass(frozen=True)
class Tensor:
    """A value in memory: its first element is `offset` elements into `buffer`; constants are arrays instead."""

    layout: Layout
    buffer: Buffer | None = None
    offset: int = 0
    constant: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        return self.layout.shape

    @property
    def address(self) -> Argument:
        """What a step gets as an argument."""
        if self.buffer is None:
            assert self.constant is not None
            return self.constant
        return Address(self.buffer, self.offset)

    @property
    def planes(self) -> Planes:
        """The layout of a tensor in planes."""
        assert isinstance(self.layout, Planes)
        return self.layout

    @property
    def maps(self) -> Planes | Tiled:
        """The layout of a tensor in planes or in tiles."""
        assert isinstance(self.layout, Planes | Tiled)
        return self.layout

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """What a step that touches this tensor lists under `reads` or `writes`."""
        return () if self.buffer is None else (self.buffer,)


@dataclass(frozen=True)
class Decision:
    """How a layer is to be computed, and why not sparsely where it has zeros.

    candidates    other choices and their measured seconds, where the layer was tuned
    """

    choice: Choice
    reason: str = ""
    candidates: tuple[tuple[Choice, float], ...] = ()


Chooser = Callable[[str, ConvShape, np.ndarray, Pattern], Decision]
Lowering = Callable[[Node, "Context"], None]
Support = Callable[[Node, Graph], str | None]


@dataclass(frozen=True)
class Lowered:
    """How an operator is lowered.

    lower      emits the steps
    refuses    why this node cannot be lowered, as a clause ("indices are asked for"), or None
    """

    lower: Lowering
    refuses: Support


lowerings: Registry[Lowered] = Registry("operator")


def lowers(*operators: str, refuses: Support = lambda node, graph: None) -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of operators of the normal form (graph.passes)."""

    def register(function: Lowering) -> Lowering:
        for operator in operators:
            lowerings.register(operator)(Lowered(function, refuses))
        return function

    return register


@dataclass
class Context:
    """A program under construction.

    pads     (height, width) of maps -> zero columns per row and zero rows per plane
    choose   how a convolution is to be computed: (layer, shape, weight, pattern of its zeros) -> decision
    layers   facts about convolutions and matrix products, for the report
    views    value -> its place inside another value's buffer, decided before lowering (concatenation without copies)
    flat     values of rank 4 that lie densely all the same (lowering.flat_values)
    tiled    values that lie in tiles -> lines of each tile (lowering.tiled_values)
    zeros    weights that are zero may be left out; else they count as all others
    layer    name of the node that is being lowered: conversions between layouts that it needs count as part of it
    """

    graph: Graph
    target: Target
    threads: int
    pads: Mapping[tuple[int, int], int]
    choose: Chooser
    steps: list[Step] = field(default_factory=list[Step])
    places: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    views: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    layers: list[LayerFacts] = field(default_factory=list[LayerFacts])
    flat: frozenset[str] = frozenset()
    tiled: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    zeros: bool = True
    layer: str = ""
    _decisions: dict[str, tuple[Pattern, Decision]] = field(default_factory=dict[str, tuple[Pattern, Decision]])
    _count: int = 0

    def decide(self, layer: str, shape: ConvShape, weight: np.ndarray) -> tuple[Pattern, Decision]:
        """The zeros of a convolution's weights, and how it is to be computed. Asked again, it says the same."""
        if layer not in self._decisions:
            pattern = detect(weight, shape.groups)
            self._decisions[layer] = pattern, self.choose(layer, shape, weight, pattern)
        return self._decisions[layer]

    def layout(self, shape: tuple[int, ...], dtype: str = "float32") -> Layout:
        """The layout that maps of this shape have everywhere in the program, and other values of it without a name."""
        if dtype == "float32" and len(shape) == 4 and shape[2] * shape[3] > 1 and 0 not in shape:
            n, c, h, w = shape
            return planes((n, c, h, w), self.pads.get((h, w), 0))
        return Flat(shape)

    def layout_of(self, name: str) -> Layout:
        """The layout that a value has."""
        kind = self.graph.type(name)
        layout = Flat(kind.shape) if name in self.flat else self.layout(kind.shape, kind.dtype)
        if name in self.tiled and isinstance(layout, Planes):
            return Tiled(*layout.shape, layout.pitch, self.tiled[name])
        return layout

    def tensor(self, name: str) -> Tensor:
        """Where the value of a name lies; constants come as flat arrays of their own type."""
        if name not in self.places:
            array = np.asarray(self.graph.constants[name], order="C")
            self.places[name] = Tensor(Flat(array.shape), constant=array)
        return self.places[name]

    def place(self, name: str) -> Tensor:
        """Memory for a value that a node is about to write."""
        if name in self.views:
            whole, channel = self.views[name]
            if whole not in self.places:
                self.place(whole)
            outer = self.places[whole]
            layout = outer.planes.channels(self.graph.shape(name)[1])
            made = Tensor(layout, outer.buffer, outer.offset + channel * layout.plane_stride)
        else:
            kind = self.graph.type(name)
            made = self.temporary(self.layout_of(name), name, np.dtype(kind.dtype).itemsize)
        self.places[name] = made
        return made

    def temporary(self, layout: Layout, name: str = "", item: int = 4) -> Tensor:
        """New memory with this layout, alive while steps read or write it."""
        self._count += 1
        name = name or f"temporary{self._count}"
        if isinstance(layout, Planes):
            group = f"{layout.h}x{layout.w} pitch {layout.pitch} stride {layout.plane_stride}"
            buffer = Buffer(name, layout.size, group, layout.plane_stride, zeroed=True)
        else:
            buffer = Buffer(name, max(layout.size, 1), "flat", item=item)
        return Tensor(layout, buffer)

    def emit(
        self,
        layer: str,
        kernel: Kernel,
        arguments: Mapping[str, Argument],
        units: int,
        *,
        reads: tuple[Tensor, ...] = (),
        writes: tuple[Tensor, ...] = (),
        costs: np.ndarray | None = None,
        scratch: int = 0,
    ) -> None:
        """Append a step."""
        arguments = {
            name: np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        }
        read = tuple(buffer for tensor in reads for buffer in tensor.buffers)
        written = tuple(buffer for tensor in writes for buffer in tensor.buffers)
        self.steps.append(Step(layer, kernel, arguments, units, read, written, costs, scratch))
