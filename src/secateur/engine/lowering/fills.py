"""Which byte stands for 0 in the 8-bit integer values of a graph: their zero points, as they are stored.

Zero points stand at the operators, not at the values. A value's is the one that its producer rounds to, else, for
operators that only move integers, that of the first integer operand; else the one its first reader knows it by. An
operator with another opinion about a value that it reads has to bring its own copy.
"""

from collections.abc import Iterator, Mapping

from secateur.engine.layout import INTEGERS, stored_zero
from secateur.graph.ir import Graph, Node

# Input index -> attribute with its zero point.
_READS: Mapping[str, Mapping[int, str]] = {
    "QConv": {0: "x_zero", 3: "r_zero"},
    "QLinear": {0: "x_zero", 3: "r_zero"},
    "QAdd": {0: "a_zero", 1: "b_zero"},
    "QMul": {0: "a_zero", 1: "b_zero"},
    "QPool": {0: "x_zero"},
    "QGlobalPool": {0: "x_zero"},
    "Dequantize": {0: "zero"},
}
_WRITES: Mapping[str, str] = {"Quantize": "zero"}
# Their results have nothing to do with the numbers of their operands.
_NEW = frozenset({"QActivate"})


def stored_fills(graph: Graph) -> Mapping[str, int]:
    """8-bit integer value -> the byte that stands for 0 in it; values of which nothing is known are missing."""
    integers = {name for name, kind in graph.types.items() if kind.dtype in INTEGERS}
    fills: dict[str, int] = {}
    for node in graph.nodes:
        zero = node.attributes.get(_WRITES.get(node.op, "y_zero"))
        if zero is not None:
            fills.update({name: _stored(graph, name, zero) for name in node.outputs if name in integers})
    known = dict(fills)
    for node in graph.nodes:
        for name, zero in _zeros_read(node):
            if name in integers and name not in known:
                known[name] = _stored(graph, name, zero)
    for node in graph.nodes:
        given = next((known[name] for name in node.reads() if name in known), None)
        for name in node.outputs:
            if name in integers and name not in fills and given is not None and node.op not in _NEW:
                known[name] = given
    for node in reversed(graph.nodes):
        given = next((known[name] for name in node.outputs if name in known), None)
        if given is not None and node.op not in _NEW:
            known.update({name: given for name in node.reads() if name in integers and name not in known})
    return known


def _zeros_read(node: Node) -> Iterator[tuple[str, int]]:
    """Names that a node reads, with the zero points it knows them by."""
    if node.op == "QConcat":
        yield from zip(node.inputs, node.attributes["zeros"], strict=True)
    for index, attribute in _READS.get(node.op, {}).items():
        zero = node.attributes.get(attribute)
        if node.input(index) and zero is not None:
            yield node.input(index), zero


def _stored(graph: Graph, name: str, zero: int) -> int:
    return stored_zero(int(zero), graph.type(name).dtype)
