"""Which values of rank 4 are no maps: those of transformers, with the channels last.

Planes are for convolutions and their kin. A value that none of these reads or writes, nor any value that it is added
to, concatenated with or the like, is dense: then matrix products and normalizations take it as it is.
"""

from secateur.engine.layout import INTEGERS
from secateur.graph.channel_selection import selected
from secateur.graph.ir import Graph, Node

# Operators that work on planes.
_MAPS = frozenset(
    {
        *("Conv", "ConvTranspose", "Pool", "GlobalPool", "Resize", "ScaleShift"),
        *("ChannelShuffle", "DepthToSpace", "SpaceToDepth", "SqueezeExcite"),
        *("QConv", "QPool", "QGlobalPool"),
    }
)
# Operators whose operands and results lie alike, as those of selections of channels do.
_ALIKE = frozenset(
    {
        *("Activate", "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Identity"),
        *("Concat", "Split", "Slice", "Pad", "Softmax", "LogSoftmax", "ReduceMean"),
        *("QAdd", "QMul", "QActivate", "QConcat"),
    }
)


def flat_values(graph: Graph) -> frozenset[str]:
    """Names of the values of rank 4, float32 or 8-bit integers, that lie densely."""
    kinds = ("float32", *INTEGERS)
    group = {name: name for name, kind in graph.types.items() if len(kind.shape) == 4 and kind.dtype in kinds}

    def root(name: str) -> str:
        while group[name] != name:
            group[name] = group[group[name]]
            name = group[name]
        return name

    def of(node: Node) -> list[str]:
        return [name for name in (*node.inputs, *node.outputs) if name in group and name not in graph.constants]

    for node in graph.nodes:
        names = of(node) if node.op in _ALIKE or selected(graph, node) is not None else []
        for name in names[1:]:
            group[root(name)] = root(names[0])
    maps = {root(name) for node in graph.nodes if node.op in _MAPS or _by_channel(graph, node) for name in of(node)}
    return frozenset(name for name in group if root(name) not in maps)


def _by_channel(graph: Graph, node: Node) -> bool:
    """Whether 8-bit integers meet a number per channel, which has to be a plane's."""
    return node.op in ("QAdd", "QMul") and len({graph.shape(name) for name in node.inputs}) > 1
