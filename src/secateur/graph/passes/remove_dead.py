"""Nodes that nobody asks."""

from dataclasses import replace

from secateur.graph.ir import Graph, Node


def remove_dead(graph: Graph) -> Graph:
    """Remove what the outputs do not depend on.

    1. A node stays if one of its outputs is read by a node that stays, or is an output of the graph.
    2. Constants, and types of values, stay if a node that stays reads or writes them; inputs of the graph stay.
    """
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(output in needed for output in node.outputs):
            kept.append(node)
            needed.update(node.reads())
    written = {output for node in kept for output in node.outputs}
    alive = needed | written | set(graph.inputs)
    if len(kept) == len(graph.nodes) and alive >= graph.constants.keys() and alive >= graph.types.keys():
        return graph
    return replace(
        graph,
        nodes=tuple(reversed(kept)),
        types={name: type for name, type in graph.types.items() if name in alive},
        constants={name: array for name, array in graph.constants.items() if name in alive},
        loose={name: type for name, type in graph.loose.items() if name in alive},
    )
