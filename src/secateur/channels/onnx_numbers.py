"""The numbers about channels that nodes carry, rewritten for fewer channels.

    Reshape Expand Resize      the sides that change; 0 and -1 stay where they still mean the same
    Split                      the sizes
    Slice Gather               which entries are picked, counted among those that stay
    Pad                        how many channels are put before and behind
    Conv                       as many groups as stay: all of them, whole ones gone, or one for each depthwise channel
    a shuffle                  a Gather in its place, where its parts lose different channels

Numbers that the file computes from shapes are overwritten where they are about channels (Where); the others go on being
computed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.channels.onnx_boxes import Boxes, Flags
from secateur.channels.onnx_moves import slices_of
from secateur.channels.onnx_rules.space import pads_of
from secateur.channels.onnx_table import OnnxTrace, Shuffle, called
from secateur.errors import SparsityError
from secateur.graph.ir import Node

Numbers = NDArray[Any]


class Rewriter:
    """Rewrites the nodes of the file in place."""

    def __init__(self, trace: OnnxTrace, boxes: Boxes) -> None:
        self.trace, self.boxes = trace, boxes
        self.graph = trace.network.model.graph
        self._choosers: dict[str, list[onnx.NodeProto]] = {}
        self._names = {name for node in self.graph.node for name in (*node.input, *node.output)}
        self._names |= {tensor.name for tensor in self.graph.initializer}

    def run(self) -> None:
        """Rewrite every node that carries numbers about channels that go."""
        replaced = {node.name for shuffle in self.trace.shuffles for node in self._shuffle(shuffle)}
        for node in self.trace.graph.nodes:
            touched = [name for name in (*node.inputs, *node.outputs) if name in self.trace.values]
            if node.name in replaced or all(self.boxes.is_whole(name) for name in touched):
                continue
            broken = next((name for name in touched if self.boxes.axes(name) is None), None)
            if broken is not None:
                raise SparsityError(f"{called(node)}: the channels that stay of '{broken}' cannot be moved by it.")
            empty = next((name for name in touched if 0 in self.boxes.shape(name)), None)
            if empty is not None:
                raise SparsityError(f"{called(node)}: every channel of '{empty}' would go; one must stay.")
            rewrite = _REWRITES.get(node.op)
            if rewrite is not None:
                rewrite(self, node)
        nodes = [copy for node in self.graph.node for copy in (*self._choosers.get(node.output[0], ()), node)]
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def proto(self, node: Node) -> onnx.NodeProto:
        """The node as the file has it."""
        return self.trace.network.producers[next(filter(None, node.outputs))]

    def added(self, hint: str, numbers: Numbers) -> str:
        """The name of a new initializer."""
        name = self.free_name(hint)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(numbers), name))
        return name

    def free_name(self, hint: str) -> str:
        """A name that nothing in the file has."""
        name = next(n for n in (hint, *(f"{hint}_{i}" for i in range(2, len(self._names) + 3))) if n not in self._names)
        self._names.add(name)
        return name

    def operand(self, node: Node, index: int, numbers: Numbers, about: Flags) -> None:
        """Give an operand of numbers new values.

        about    which of them are about channels: they are overwritten even where they seem to stay, for what computes
                 them may see another shape now
        """
        proto = self.proto(node)
        old = self.trace.constant(node.inputs[index])
        assert old is not None
        source = self.trace.network.producers.get(proto.input[index])
        computed = source is not None and source.op_type != "Constant" and old.shape == numbers.shape
        if not computed and np.array_equal(old, numbers):
            return
        new = self.added(f"{node.outputs[0]}.numbers", numbers.astype(old.dtype))
        if computed:
            which = self.added(f"{node.outputs[0]}.which", about | (old != numbers))
            chosen = self.free_name(f"{new}.chosen")
            where = helper.make_node("Where", [which, new, proto.input[index]], [chosen], name=chosen)
            self._choosers.setdefault(proto.output[0], []).append(where)
            new = chosen
        proto.input[index] = new

    def set(self, node: Node, key: str, value: Any) -> None:
        """Give a node an attribute."""
        proto = self.proto(node)
        for place, attribute in enumerate(proto.attribute):
            if attribute.name == key:
                del proto.attribute[place]
                break
        proto.attribute.append(helper.make_attribute(key, value))

    def axis(self, name: str, axis: int) -> Flags:
        axes = self.boxes.axes(name)
        assert axes is not None
        return axes[axis]

    def _shuffle(self, shuffle: Shuffle) -> Iterable[Node]:
        """Put a Gather in the place of a shuffle whose parts lose different channels; the nodes that go."""
        inner = [node.outputs[0] for node in shuffle.nodes]
        if all(self.boxes.axes(name) is not None for name in inner):
            return ()
        kept = self.axis(shuffle.source, shuffle.axis)
        picks = shuffle.picks[kept[shuffle.picks]]
        last = self.proto(shuffle.nodes[-1])
        indices = self.added(f"{shuffle.target}.channels", (np.cumsum(kept) - 1)[picks])
        gather = helper.make_node(
            "Gather", [shuffle.source, indices], [shuffle.target], name=last.name, axis=shuffle.axis
        )
        last.CopyFrom(gather)
        return shuffle.nodes


def _shape(rewriter: Rewriter, node: Node) -> None:
    """The shape of the output is an operand."""
    index = {"Reshape": 1, "Expand": 1, "Resize": 3}[node.op]
    old = rewriter.trace.constant(node.input(index))
    if old is None:
        if node.op == "Resize" and not node.input(index):
            return
        raise SparsityError(f"{called(node)}: its shape is computed from data, so it cannot be made smaller.")
    before, after = rewriter.trace.shape(node.outputs[0]), rewriter.boxes.shape(node.outputs[0])
    source = rewriter.boxes.shape(node.inputs[0])
    new, about = old.copy(), np.zeros(len(old), bool)
    offset = len(after) - len(old)
    for place, number in enumerate(old):
        axis = place + offset
        copied = number == 0 and node.op == "Reshape" and not node.attributes.get("allowzero", 0)
        if (number > 0 and before[axis] != after[axis]) or (copied and source[axis] != after[axis]):
            new[place] = after[axis]
        about[place] = number > 0 and rewriter.trace.varies(node.outputs[0], axis)
    rewriter.operand(node, index, new, about)


def _split(rewriter: Rewriter, node: Node) -> None:
    axis = int(node.attributes.get("axis", 0)) % len(rewriter.trace.shape(node.inputs[0]))
    sizes = np.array([rewriter.boxes.shape(name)[axis] for name in node.outputs], np.int64)
    if rewriter.trace.graph.opset < 13:
        rewriter.set(node, "split", sizes.tolist())
        return
    proto = rewriter.proto(node)
    for place, attribute in enumerate(proto.attribute):
        if attribute.name == "num_outputs":
            del proto.attribute[place]
            break
    if node.input(1):
        rewriter.operand(node, 1, sizes, np.ones(len(sizes), bool))
    else:
        proto.input.append(rewriter.added(f"{node.outputs[0]}.sizes", sizes))


def _slice(rewriter: Rewriter, node: Node) -> None:
    """Entries in steps of one stay in steps of one; others may need a Gather."""
    picked = slices_of(rewriter.trace.graph, node)
    assert picked is not None
    starts, ends, *_ = (rewriter.trace.graph.constants[name].copy() for name in node.inputs[1:3])
    about = np.zeros(len(starts), bool)
    for place, (axis, entries) in enumerate(picked.items()):
        kept = rewriter.axis(node.inputs[0], axis)
        if kept.all():
            continue
        old = np.array(entries, np.int64)
        new = (np.cumsum(kept) - 1)[old[kept[old]]]
        steps = set(np.diff(new).tolist())
        wanted = int(rewriter.trace.graph.constants[node.inputs[4]][place]) if node.input(4) else 1
        if len(new) > 1 and steps != {wanted}:
            _gathered(rewriter, node, axis, new)
            return
        about[place] = True
        starts[place] = new[0]
        # -1 would mean the last entry.
        ends[place] = new[-1] + wanted if new[-1] + wanted >= 0 else -(2**31) + 1
    rewriter.operand(node, 1, starts, about)
    rewriter.operand(node, 2, ends, about)


def _gathered(rewriter: Rewriter, node: Node, axis: int, entries: Numbers) -> None:
    picked = slices_of(rewriter.trace.graph, node)
    if picked is None or any(
        len(indices) != rewriter.trace.shape(node.inputs[0])[other]
        for other, indices in picked.items()
        if other != axis
    ):
        raise SparsityError(
            f"{called(node)}: it picks channels in steps and cuts another axis; that cannot be made smaller."
        )
    proto = rewriter.proto(node)
    indices = rewriter.added(f"{node.outputs[0]}.channels", entries)
    proto.CopyFrom(helper.make_node("Gather", [proto.input[0], indices], [proto.output[0]], name=proto.name, axis=axis))


def _gather(rewriter: Rewriter, node: Node) -> None:
    axis = int(node.attributes.get("axis", 0)) % len(rewriter.trace.shape(node.inputs[0]))
    kept = rewriter.axis(node.inputs[0], axis)
    picks = rewriter.trace.graph.constants[node.inputs[1]].astype(np.int64)
    if kept.all():
        return
    whole = np.where(picks < 0, picks + len(kept), picks)
    new = (np.cumsum(kept) - 1)[whole[kept[whole]]]
    rewriter.operand(node, 1, new, np.ones(len(new), bool))


def _pad(rewriter: Rewriter, node: Node) -> None:
    """Channels that are put before and behind are the first and the last of the result."""
    amounts = pads_of(rewriter.trace, node)
    assert amounts is not None
    given: Any = rewriter.trace.constant(node.input(3)) if node.input(3) else np.arange(len(amounts))
    new = rewriter.trace.graph.constants[node.inputs[1]].copy()
    about = np.zeros(len(new), bool)
    for place, axis in enumerate(int(axis) % len(amounts) for axis in given):
        low, high = amounts[axis]
        if rewriter.trace.varies(node.inputs[0], axis):
            kept = rewriter.axis(node.outputs[0], axis)
            new[place] = kept[:low].sum()
            new[place + len(given)] = kept[len(kept) - high :].sum()
            about[[place, place + len(given)]] = True
    rewriter.operand(node, 1, new, about)


def _groups(rewriter: Rewriter, node: Node) -> None:
    """Groups that lose all their channels go; the others keep as many as each other."""
    groups = int(node.attributes.get("group", 1))
    if groups == 1:
        return
    made = rewriter.axis(node.outputs[0], 1).reshape(groups, -1).sum(axis=1)
    read = rewriter.axis(node.inputs[0], 1).reshape(groups, -1).sum(axis=1)
    left = made > 0
    if not np.array_equal(left, read > 0) or len({*made[left].tolist()}) > 1 or len({*read[left].tolist()}) > 1:
        raise SparsityError(
            f"{called(node)}: its {groups} groups must keep as many channels as each other; reading they would keep "
            f"{_listed(read)}, making {_listed(made)}."
        )
    rewriter.set(node, "group", int(left.sum()))


def _listed(counts: Sequence[int] | Numbers) -> str:
    shown = [str(int(count)) for count in counts[:8]]
    return ", ".join(shown) + (", ..." if len(counts) > 8 else "")


_REWRITES: dict[str, Callable[[Rewriter, Node], None]] = {
    "Reshape": _shape,
    "Expand": _shape,
    "Resize": _shape,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Conv": _groups,
    "ConvTranspose": _groups,
}
