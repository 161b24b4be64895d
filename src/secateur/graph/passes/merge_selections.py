"""Selections of channels from selections.

Copied are the elements of a selection that has a reader which cannot take its channels where they lie, except where
they are neighbours in order (graph.channel_selection).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from secateur.graph.channel_selection import Channels, Selections, in_order, select, selected, unused
from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, is_fused, is_onnx


def merge_selections(graph: Graph) -> Graph:
    """Let a selection of a selection (ChannelShuffle, Split, Slice, Gather along the channels) read the first source.

    1. Neighbouring channels in order become a Slice, others a Gather.
    2. Where a selection is copied, those of its selections that would be copied too stay, unless together they are no
       larger than what they are selected from.
    3. What is no selection of a selection becomes a Gather only where all its readers take its channels where they lie.
    """
    draft, merging = Draft(graph), _Merging(graph)
    nodes = [made for node in graph.nodes for made in merging.rewritten(draft, node)]
    return draft.finish(nodes) if merging.changed else graph


class _Merging:
    def __init__(self, graph: Graph) -> None:
        self.selections = Selections(graph)
        self.origins: dict[str, tuple[str, Channels]] = {}
        self.names = {node.name for node in graph.nodes}
        self.changed = False

    def rewritten(self, draft: Draft, node: Node) -> Iterator[Node]:
        """A node, or what takes its place."""
        chosen = selected(draft, node)
        if chosen is None or node.captured():
            yield node
            return
        x = node.inputs[0]
        source, base = self.origins.get(x, (x, np.arange(draft.shape(x)[1])))
        outputs = {name: base[picks] for name, picks in zip(node.outputs, chosen, strict=True) if name}
        self.origins |= {name: (source, channels) for name, channels in outputs.items()}
        merged = [name for name, channels in outputs.items() if self.merges(node, name, channels)]
        rest = [name for name in outputs if name not in merged]
        if not merged:
            yield node
            return
        self.changed = True
        for name in merged:
            yield self.selection(draft, node, source, name, outputs[name])
        for name in rest:
            yield self.selection(draft, node, x, name, chosen[node.outputs.index(name)])

    def merges(self, node: Node, name: str, channels: Channels) -> bool:
        x = node.inputs[0]
        free = in_order(channels) or self.selections.taken(name, channels)
        if x in self.origins:
            return free or self.worth(x)
        if is_onnx(node, "Gather") or is_fused(node, "Split") or in_order(channels):
            return False  # it is what it would become
        selections = any(self.selections.outputs(reader, name) for reader in self.selections.readers.get(name, []))
        return free and not selections

    def worth(self, x: str) -> bool:
        """Rule 2: whether all selections from x are to read what x is selected from."""
        base = self.origins[x][1]
        if not self.selections.taken(x, base):
            return False
        pieces = [
            (name, base[picks])
            for node in self.selections.readers.get(x, [])
            for name, picks in self.selections.outputs(node, x)
        ]
        copied = sum(
            len(channels)
            for name, channels in pieces
            if not in_order(channels) and not self.selections.taken(name, channels)
        )
        return copied <= len(base)

    def selection(self, draft: Draft, like: Node, source: str, name: str, channels: Channels) -> Node:
        """A node that selects channels (rule 1)."""
        made = select(draft, like, source, name, channels)
        if like.outputs[0] != name:
            made = replace(made, name=unused(f"{like.name}.{like.outputs.index(name)}", self.names), absorbed=())
        return made
