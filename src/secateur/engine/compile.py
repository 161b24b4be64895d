"""From a graph to programs: lowering of every node, in order.

concatenations decide first where their parts lie, so that producers write into place
inputs are brought from the caller's arrays into their layout, outputs the other way
"""

from collections.abc import Iterable, MutableMapping

import numpy as np

from secateur.engine.constants import Constants
from secateur.engine.facts import LayerFacts
from secateur.engine.kernels.convert import TYPES
from secateur.engine.layout import ALIGN, INTEGERS
from secateur.engine.lowering.concat import concat_views
from secateur.engine.lowering.context import Chooser, Context
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.families import lowerings
from secateur.engine.lowering.fills import stored_fills
from secateur.engine.lowering.flat_values import flat_values
from secateur.engine.lowering.pairs import multiplied
from secateur.engine.lowering.ports import export_output, import_input
from secateur.engine.lowering.tile_size import RegisterTile
from secateur.engine.lowering.tiled_values import tiled_values
from secateur.engine.pitches import map_pads
from secateur.engine.program import Buffer, Port, Program
from secateur.engine.target import Target
from secateur.engine.weights.quads import weight_quads
from secateur.graph.ir import Graph, Node


def lower(
    graph: Graph,
    target: Target,
    threads: int,
    choose: Chooser,
    constants: Constants | None = None,
    *,
    zeros: bool = True,
    bf16: bool = False,
) -> tuple[Program, tuple[LayerFacts, ...]]:
    """The program of a graph whose nodes all have lowerings, and facts about its layers.

    constants    where the program's constants go, layer by layer, if given. The graph's own arrays are then dropped
                 as soon as the last node that reads them is lowered
    zeros        weights that are zero may be left out
    bf16         layers multiply numbers rounded to bf16 where they can
    """
    context = Context(graph, target, threads, map_pads(graph), choose, zeros=zeros, bf16=bf16)
    context.flat, context.fills = flat_values(graph), stored_fills(graph)
    context.views.update(concat_views(graph, context))
    context.tiled = tiled_values(
        graph,
        context.pads,
        context.flat | context.views.keys(),
        lambda node, shape: _register_tile(context, node, shape),
    )
    inputs = [_input(context, name) for name in graph.inputs]
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.reads()}
    moved = 0
    for index, node in enumerate(graph.nodes):
        context.layer = node.name
        lowerings[node.op].lower(node, context)
        if constants is not None:
            context.steps[moved:] = map(constants.moved, context.steps[moved:])
            moved = len(context.steps)
            _drop(context, [name for name in node.reads() if last[name] == index])
    outputs = [_output(context, name) for name in graph.outputs]
    return Program(tuple(context.steps), tuple(inputs), tuple(outputs)), tuple(context.layers)


def _drop(context: Context, names: Iterable[str]) -> None:
    """Forget the arrays of constants that nobody will read again."""
    constants = context.graph.constants
    for name in names:
        if isinstance(constants, MutableMapping) and name in constants:
            del constants[name]
            context.places.pop(name, None)


def refusal(node: Node, graph: Graph) -> str | None:
    """Why a node cannot be lowered, or None."""
    if node.op not in lowerings or node.domain not in ("", "secateur"):
        return "the operator has no kernel"
    for name in (*node.inputs, *node.outputs):
        if name and name not in graph.types:
            return f"the type of '{name}' is only known while the network runs"
        if name and graph.type(name).dtype not in (*TYPES, *INTEGERS):
            return f"it works on {graph.type(name).dtype}"
    return lowerings[node.op].refuses(node, graph)


def _register_tile(context: Context, node: Node, shape: ConvShape) -> RegisterTile:
    weight = context.graph.constants[node.inputs[1]]
    if node.op == "QConv":
        shape, weight = shape.in_quads, weight_quads(weight)
    else:
        shape, weight = multiplied(context, shape, weight)
    _, decision = context.decide(node.name, shape, weight)
    lines = max(decision.choice.vectors * context.target.lanes // ALIGN, 1)
    return RegisterTile(lines, decision.choice.format == "bytes")


def _input(context: Context, name: str) -> Port:
    kind = context.graph.type(name)
    item = np.dtype(kind.dtype).itemsize
    port = Port(name, kind.shape, kind.dtype, Buffer(name, kind.size, external=name, item=item))
    import_input(context, port)
    return port


def _output(context: Context, name: str) -> Port:
    kind = context.graph.type(name)
    item = np.dtype(kind.dtype).itemsize
    port = Port(name, kind.shape, kind.dtype, Buffer(f"{name} (output)", kind.size, external=name, item=item))
    export_output(context, port)
    return port
