"""What a lowering works with: where values lie, and the list of steps that grows.

A lowering is a function `lower(node, context)` that reads its inputs with `context.tensor`, asks for the place of its
outputs with `context.place`, and emits steps. It is registered under the operators that it covers:

    @lowers("Softmax")
    def softmax(node: Node, context: Context) -> None: ...

Float32 values of rank 4 whose maps are larger than 1x1 lie in planes where operators on maps read or write them, such
values of 8-bit integers in quads; everything else is flat. All values of one map size have the same pitch, so that
element-wise operators, 1x1 convolutions and residual sums need no conversion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from secateur.engine.choice import Choice
from secateur.engine.facts import LayerFacts
from secateur.engine.layout import INTEGERS, Flat, Layout, Planes, Quads, Tiled, planes, quads
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.program import Address, Argument, Buffer, Kernel, Step
from secateur.engine.target import Target
from secateur.engine.weights.pattern import Pattern, detect
from secateur.engine.weights.quads import single_channels
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
    def fill(self) -> int:
        """Each byte of what is zero in the tensor."""
        return self.layout.fill if isinstance(self.layout, Planes | Tiled | Quads) else 0

    @property
    def words(self) -> "Tensor":
        """A tensor of quads as one of 4-byte elements, (n, quads, h, w), in the same place."""
        assert isinstance(self.layout, Quads)
        return Tensor(self.layout.words, self.buffer, self.offset)

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
    fills    8-bit integer value -> the byte that stands for 0 in it (lowering.fills); 0 when not given
    zeros    weights that are zero may be left out; else they count as all others
    bf16     layers multiply numbers rounded to bf16 where they can (lowering.pairs)
    paired   value -> its numbers rounded to bf16, in pairs, once a layer has asked for them
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
    fills: Mapping[str, int] = field(default_factory=dict[str, int])
    zeros: bool = True
    bf16: bool = False
    layer: str = ""
    paired: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _decisions: dict[str, tuple[Pattern, Decision]] = field(default_factory=dict[str, tuple[Pattern, Decision]])
    _count: int = 0

    def decide(self, layer: str, shape: ConvShape, weight: np.ndarray) -> tuple[Pattern, Decision]:
        """The zeros of a convolution's weights, and how it is to be computed. Asked again, it says the same."""
        if layer not in self._decisions:
            pattern = detect(weight, shape.groups)
            if shape.quads and weight.size:
                pattern = replace(pattern, single=detect(single_channels(weight), shape.groups))
            self._decisions[layer] = pattern, self.choose(layer, shape, weight, pattern)
        return self._decisions[layer]

    def layout(self, shape: tuple[int, ...], dtype: str = "float32", fill: int = 0) -> Layout:
        """The layout that maps of this shape have everywhere in the program, and other values of it without a name.

        fill    the byte that stands for 0 in 8-bit integers
        """
        maps = dtype == "float32" or dtype in INTEGERS
        if not maps or len(shape) != 4 or shape[2] * shape[3] <= 1 or 0 in shape:
            return Flat(shape)
        n, c, h, w = shape
        pad = self.pads.get((h, w), 0)
        return planes((n, c, h, w), pad) if dtype == "float32" else quads((n, c, h, w), fill, pad)

    def layout_of(self, name: str) -> Layout:
        """The layout that a value has."""
        kind = self.graph.type(name)
        if name in self.flat:
            return Flat(kind.shape)
        layout = self.layout(kind.shape, kind.dtype, self.fills.get(name, 0))
        if name not in self.tiled or isinstance(layout, Flat):
            return layout
        words = layout.words if isinstance(layout, Quads) else layout
        assert isinstance(words, Planes)
        tiled = Tiled(*words.shape, words.pitch, self.tiled[name], words.fill)
        return Quads(tiled, layout.c) if isinstance(layout, Quads) else tiled

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
            assert isinstance(outer.layout, Planes | Quads)
            layout = outer.layout.channels(self.graph.shape(name)[1])
            own, plane = (layout.words, channel // 4) if isinstance(layout, Quads) else (layout, channel)
            made = Tensor(layout, outer.buffer, outer.offset + plane * own.channel_stride)
        else:
            kind = self.graph.type(name)
            made = self.temporary(self.layout_of(name), name, np.dtype(kind.dtype).itemsize)
        self.places[name] = made
        return made

    def temporary(self, layout: Layout, name: str = "", item: int = 4) -> Tensor:
        """New memory with this layout, alive while steps read or write it.

        item    bytes of an element that lies densely; an array of single bytes ends with a whole 4-byte element
        """
        self._count += 1
        name = name or f"temporary{self._count}"
        own = layout.words if isinstance(layout, Quads) else layout
        if isinstance(own, Planes):
            group = f"{own.h}x{own.w} pitch {own.pitch} stride {own.plane_stride} fill {own.fill}"
            buffer = Buffer(name, own.size, group, own.plane_stride, zeroed=True, fill=own.fill)
        elif isinstance(layout, Flat):
            size = max(layout.size, 1)
            buffer = Buffer(name, -(-size // 4) * 4 if item == 1 else size, "flat", item=item)
        else:
            buffer = Buffer(name, own.size, "flat")
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
