"""Channels picked from a value: what shuffles, splits and slices along the channels have in common.

    channel i of the selection = channel channels[i] of its source

Selections of maps, (n, c, h, w) float32, cost nothing where their readers take the planes one by one from where they
lie (engine.lowering.picked); for other readers they are copied. Neighbouring channels in order are never copied.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fused, is_fused, is_onnx

Channels = NDArray[np.int64]

_ALWAYS = ("Pool", "Activate", "ScaleShift")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Max", "Min")


def selected(graph: Graph | Draft, node: Node) -> Sequence[Channels] | None:
    """Which channels of its first input each output of a node is; None where it selects no channels of maps."""
    if not node.inputs or node.inputs[0] not in graph.types or not node.outputs[0]:
        return None
    kind = graph.types[node.inputs[0]]
    if kind.dtype != "float32" or len(kind.shape) != 4:
        return None
    count = kind.shape[1]
    every = np.arange(count)
    if is_fused(node, "ChannelShuffle"):
        return [every.reshape(node.attributes["groups"], -1).T.reshape(-1)]
    if is_fused(node, "Split") and node.attributes["axis"] == 1:
        return np.split(every, np.cumsum(node.attributes["sizes"])[:-1])
    if is_fused(node, "Slice") and tuple(node.attributes["axes"]) == (1,):
        (start,), (step,), length = *(node.attributes[key] for key in ("starts", "steps")), _channels_out(graph, node)
        return [start + step * np.arange(length)]
    if is_onnx(node, "Gather") and node.inputs[1] in graph.constants:
        picks = graph.constants[node.inputs[1]]
        if int(node.attributes.get("axis", 0)) in (1, -3) and picks.ndim == 1 and picks.size:
            channels = np.where(picks < 0, picks + count, picks).astype(np.int64)
            return [channels] if 0 <= channels.min() <= channels.max() < count else None
    return None


def select(draft: Draft, like: Node, source: str, output: str, channels: Channels) -> Node:
    """A node in the place of `like` that selects channels of a source: a Slice if they are in order, else a Gather."""
    if in_order(channels):
        ends = {"starts": (int(channels[0]),), "ends": (int(channels[-1]) + 1,)}
        return fused("Slice", like, (source,), (output,), axes=(1,), steps=(1,), **ends)
    picks = draft.constant(f"{output}.channels", channels.astype(np.int64))
    return Node(like.name, "Gather", (source, picks), (output,), {"axis": 1}, "", like.absorbed)


def unused(hint: str, names: set[str]) -> str:
    """A name for a node that none has, noted in `names`."""
    name = next(name for name in (hint, *(f"{hint}.{i}" for i in range(1, len(names) + 2))) if name not in names)
    names.add(name)
    return name


def _channels_out(graph: Graph | Draft, node: Node) -> int:
    return graph.types[node.outputs[0]].shape[1]


def in_order(channels: Channels) -> bool:
    """Whether the channels are neighbours in order: a view of their source."""
    return bool(np.all(np.diff(channels) == 1))


def takes(graph: Graph | Draft, node: Node, value: str, channels: Channels) -> bool:
    """Whether a node reads these channels of another value in the place of `value`, without a copy of its own.

    1. Conv takes its input so where it has one group, is depthwise, or every group picks its channels as the first
       one does, a constant number of channels further on; not its residual operand.
    2. Pool, and operators on single numbers whose other operands have the same shape or one number per channel.
    3. Concat along the channels copies what does not lie in the result, whether it is picked or not.
    """
    if node.captured():
        return False
    if is_fused(node, "Conv"):
        group = node.attributes["group"]
        fits = group in (1, len(channels)) or of_groups(channels, group) is not None
        return fits and node.inputs[0] == value and node.inputs.count(value) == 1
    if is_fused(node, *_ALWAYS):
        return True
    if is_fused(node, *_ARITHMETIC):
        shapes = [(1,) * (4 - len(shape)) + shape for shape in (graph.types[name].shape for name in node.inputs)]
        return all(
            shape == graph.types[value].shape or (name in graph.constants and shape[2:] == (1, 1))
            for name, shape in zip(node.inputs, shapes, strict=True)
        )
    return is_fused(node, "Concat") and node.attributes["axis"] == 1


def of_groups(channels: Channels, groups: int) -> tuple[Channels, int] | None:
    """The first group's channels, and how many channels further on each next group's lie; None where they differ."""
    parts = channels.reshape(groups, -1)
    step = int(parts[1, 0] - parts[0, 0]) if groups > 1 else 0
    regular = step >= 0 and (parts == parts[0] + step * np.arange(groups)[:, None]).all()
    return (parts[0], step) if regular else None


class Selections:
    """Who selects from what in a graph, looked up once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: Mapping[str, list[Node]] = graph.readers()

    def copied(self, value: str, channels: Channels) -> int:
        """Elements copied for a value, and for all that is selected from it, if it is these channels of another one."""
        return sum(
            self.graph.types[name].size
            for name, picked in self.selections(value, channels)
            if not in_order(picked) and not self.taken(name, picked)
        )

    def selections(self, value: str, channels: Channels) -> Iterator[tuple[str, Channels]]:
        """The value itself and all that is selected from it, each as channels of that other one."""
        yield value, channels
        for node in self.readers.get(value, []):
            for name, picks in self.outputs(node, value):
                yield from self.selections(name, channels[picks])

    def outputs(self, node: Node, value: str) -> list[tuple[str, Channels]]:
        """What a node selects from a value."""
        chosen = selected(self.graph, node) if node.inputs[:1] == (value,) else None
        return [pair for pair in zip(node.outputs, chosen or (), strict=False) if pair[0]]

    def taken(self, value: str, channels: Channels) -> bool:
        """Whether all readers of a value, other selections aside, take it as these channels of another one."""
        return all(
            takes(self.graph, node, value, channels) or self.outputs(node, value)
            for node in self.readers.get(value, [])
        )
