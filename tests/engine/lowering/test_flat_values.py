"""Which values are maps and which are not."""

from dataclasses import replace

import numpy as np

from secateur.engine.lowering.flat_values import flat_values
from secateur.graph.ir import Graph, Node, TensorType

MAP, LAST = (1, 8, 6, 6), (1, 6, 6, 8)


def graph(*nodes: tuple[str, str, tuple[str, ...]], last: tuple[str, ...] = ()) -> Graph:
    made = tuple(Node(out, op, inputs, (out,), {}, "secateur") for out, op, inputs in nodes)
    names = {name for node in made for name in (*node.inputs, *node.outputs)}
    types = {name: TensorType(LAST if name in last else MAP, "float32") for name in names}
    types["w"] = TensorType((8, 8, 1, 1), "float32")
    return Graph(made, ("x",), (made[-1].outputs[0],), types, {"w": np.zeros((8, 8, 1, 1), np.float32)}, 20)


def test_what_a_convolution_reads_and_writes_are_maps() -> None:
    assert not flat_values(graph(("y", "Conv", ("x", "w")))) - {"w"}


def test_a_map_stays_one_through_activations_and_sums() -> None:
    chain = graph(
        ("a", "Conv", ("x", "w")), ("b", "Activate", ("a",)), ("c", "Add", ("b", "x")), ("y", "Concat", ("c", "b"))
    )
    assert not flat_values(chain) - {"w"}


def test_values_between_transpositions_are_dense() -> None:
    """ConvNeXt: a convolution, then a block with the channels last."""
    names = ("t", "n", "l", "s")
    block = graph(
        ("a", "Conv", ("x", "w")),
        ("t", "Transpose", ("a",)),
        ("n", "LayerNormalization", ("t",)),
        ("l", "Linear", ("n",)),
        ("s", "Add", ("l", "t")),
        ("y", "Transpose", ("s",)),
        ("z", "Pool", ("y",)),
        last=names,
    )
    assert flat_values(block) - {"w"} == set(names)


def test_values_of_other_ranks_and_types_are_not_named() -> None:
    nodes = (Node("y", "Add", ("x", "x"), ("y",), {}, "secateur"),)
    types = {"x": TensorType((2, 3), "float32"), "y": TensorType((1, 2, 3, 4), "int64")}
    assert flat_values(Graph(nodes, ("x",), ("y",), types, {}, 20)) == frozenset()


def test_selected_channels_lie_as_what_they_are_selected_from() -> None:
    """A map that is an output is written from its planes."""
    made = graph(("a", "Conv", ("x", "w")), ("y", "Gather", ("a", "i")))
    gather = Node("y", "Gather", ("a", "i"), ("y",), {"axis": 1})
    constants = {**made.constants, "i": np.arange(8)[::-1]}
    types = {**made.types, "i": TensorType((8,), "int64")}
    assert "y" not in flat_values(replace(made, nodes=(made.nodes[0], gather), constants=constants, types=types))
    rows = replace(gather, attributes={"axis": 2})
    assert "y" in flat_values(replace(made, nodes=(made.nodes[0], rows), constants=constants, types=types))
