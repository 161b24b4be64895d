"""The axis of an input's channels, told by what reads it."""

import pytest

from channels.onnx_topologies import conv, model
from secateur.channels.onnx_inputs import channel_axis
from secateur.channels.onnx_network import read_network


@pytest.mark.parametrize(
    ("nodes", "x", "axis"),
    [
        ("y = Conv(x, a.weight, a.bias)", "N,3,8,8", 1),
        ("t = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(t, a.weight, a.bias)", "N,8,8,3", 3),
        ("i = Cast<to = 1>(x) t = Transpose<perm = [0, 3, 2, 1]>(i) y = Conv(t, a.weight, a.bias)", "N,8,8,3", 3),
        ("t = Transpose<perm = [0, 2, 3, 1]>(x) u = Transpose<perm = [0, 3, 1, 2]>(t) y = Conv(u, a.weight, a.bias)",
         "N,3,8,8", 1),
        ("t = Transpose(x) y = Relu(t)", "8,8,4,1", 1),  # nothing tells
    ],
)  # fmt: skip
def test_axis(nodes, x, axis):
    weights = conv("a", 4, 3, 1) if "Conv" in nodes else {}
    graph = read_network(model(nodes, weights, x=x, y="N,4,8,8" if weights else "1,4,8,8")).graph
    readers = graph.readers()
    assert channel_axis(graph, lambda name: readers.get(name, []), "x") == axis
