"""Concatenations of channels that are selected from other values.

    Concat(Select(v, a), r) = Select(Concat(v, r), a')

Parts of a concatenation are computed in place, selections have to be copied there. So v as a whole becomes the part,
and what was to be concatenated is a selection again, which costs nothing where its readers take channels where they
lie. A stage of ShuffleNetV2, or a block of YOLO, so becomes one growing concatenation.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from secateur.graph.channel_selection import Channels, Selections, select, selected, unused
from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fused, is_fused

# Of the concatenation's own channels: memory that all its readers have to live with.
MOST_GROWTH = 8
# Operators whose results lie in planes, and those that write where they are told, beside them.
_MAPS = ("Conv", "ConvTranspose", "Pool", "Resize")
_PLACED = (*_MAPS, "Concat", "Activate", "ScaleShift", "Add", "Sub", "Mul", "Div", "Max", "Min")


def join_selections(graph: Graph) -> Graph:
    """Concatenate what channels are selected from, and select afterwards.

    1. Fewer elements are copied than before: parts that are selected or have no place of their own, and selections
       that have a reader which cannot take channels where they lie.
    2. The new concatenation has at most MOST_GROWTH times as many channels.
    3. A value is computed in the place of one concatenation only; elsewhere it is copied.
    """
    draft, joining = Draft(graph), _Joining(graph)
    nodes = [made for node in graph.nodes for made in joining.rewritten(draft, node)]
    return draft.finish(nodes) if joining.changed else graph


class _Joining:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.selections = Selections(graph)
        self.producer = graph.producer()
        self.names = {node.name for node in graph.nodes}
        self.origins: dict[str, tuple[str, Channels]] = {}
        self.grown: set[str] = set()
        self.placed: set[str] = set()
        self.changed = False

    def rewritten(self, draft: Draft, node: Node) -> Sequence[Node]:
        """A node, or what takes its place."""
        chosen = selected(draft, node)
        if chosen is not None:
            source, base = self.origin(draft, node.inputs[0])
            self.origins |= {
                name: (source, base[picks]) for name, picks in zip(node.outputs, chosen, strict=True) if name
            }
        joined = self.joined(draft, node) if is_fused(node, "Concat") and node.attributes["axis"] == 1 else None
        self.changed = self.changed or joined is not None
        return (node,) if joined is None else joined

    def origin(self, draft: Draft, value: str) -> tuple[str, Channels]:
        return self.origins.get(value) or (value, np.arange(draft.shape(value)[1]))

    def joined(self, draft: Draft, node: Node) -> Sequence[Node] | None:
        output = node.outputs[0]
        kind = draft.types[output]
        if kind.dtype != "float32" or len(kind.shape) != 4 or kind.shape[2] * kind.shape[3] == 1:
            return None
        parts = [self.origin(draft, name) for name in node.inputs]
        if not any(name in self.origins for name in node.inputs):
            return None
        sources = list(dict.fromkeys(source for source, _ in parts))
        counts = [draft.shape(source)[1] for source in sources]
        firsts = dict(zip(sources, np.cumsum([0, *counts]), strict=False))
        channels = np.concatenate([firsts[source] + picks for source, picks in parts])
        if not self.worth(draft, node, sources, channels) or sum(counts) > MOST_GROWTH * kind.shape[1]:
            return None
        if len(sources) == 1:
            return [select(draft, node, sources[0], output, channels)]
        self.placed.update(source for source in sources if self.places(draft, node, source))
        if np.array_equal(channels, np.arange(sum(counts))):
            self.grown.add(output)
            return [fused("Concat", node, sources, axis=1)]
        shape = (kind.shape[0], sum(counts), *kind.shape[2:])
        whole = draft.value(f"{output}.whole", shape)
        self.grown.add(whole)
        self.origins[output] = (whole, channels)
        order = select(draft, node, whole, output, channels)
        named = replace(order, name=unused(f"{node.name}.select", self.names), absorbed=())
        return [fused("Concat", node, sources, (whole,), axis=1), named]

    def worth(self, draft: Draft, node: Node, sources: Sequence[str], channels: Channels) -> bool:
        """Rule 1, counted in elements."""
        output = node.outputs[0]
        made_by = [self.producer[source].op for source in sources if source in self.producer]
        if not any(source in self.grown for source in sources) and not any(op in _MAPS for op in made_by):
            return False  # values without planes are not computed in place
        selects = [name for name in node.inputs if name in self.origins]
        before = sum(draft.types[name].size for name in selects)
        before += self.selections.copied(output, np.arange(draft.shape(output)[1]))
        own = {self.origins[name][0] for name in selects}
        after = self.selections.copied(output, channels)
        if len(sources) > 1:
            after += sum(draft.types[source].size for source in own if not self.places(draft, node, source))
        return after < before

    def places(self, draft: Draft, node: Node, source: str) -> bool:
        """Whether a value can be computed in the place of the new concatenation (rule 3)."""
        if source in self.placed:
            return False
        if source not in self.graph.types:  # made by this pass
            return True
        if source not in self.producer or self.producer[source].op not in _PLACED:
            return False
        readers = self.selections.readers.get(source, [])
        return not any(is_fused(reader, "Concat") for reader in readers if reader is not node)
