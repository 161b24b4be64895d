"""Residual sums and squeeze-and-excitation in passes/remove_dead_channels.py."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_tools import assert_same, graph_of, model_of, node, numbers
from secateur.graph.ir import Graph
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.passes.remove_dead_channels import remove_dead_channels

X = {"x": (2, 3, 8, 8)}
DEAD = [1, 4]


def full(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that are not zero."""
    return numbers(*shape, seed=seed, low=0.1) * np.where(np.arange(np.prod(shape)) % 2, -1, 1).reshape(shape).astype(
        "f"
    )


def without(array: np.ndarray, rows=(), columns=()) -> np.ndarray:
    array = array.copy()
    array[list(rows)] = 0
    if len(columns):
        array[:, list(columns)] = 0
    return array


def shapes(graph: Graph) -> list[tuple[int, ...]]:
    """Of all weights, in order; both of a squeeze-and-excitation."""
    places = {"Conv": (1,), "Linear": (1,), "SqueezeExcite": (1, 3)}
    return [graph.shape(each.inputs[i])[:2] for each in graph.nodes for i in places.get(each.op, ())]


def thinned(nodes, expected, x=X, outputs: str = "y", **constants) -> Graph:
    """The simplified graph, whose weights have these shapes and which computes the same."""
    model = model_of(nodes, x, constants, outputs)
    graph = simplify(load_graph(model))
    assert shapes(graph) == expected
    assert_same(model, graph)
    return graph


SUM = [node("Conv", "x p a", "c"), node("Conv", "x q b", "d"), node("Add", "c d", "s"), node("Conv", "s v e", "y")]
P, Q = full(6, 3, 1, 1), full(6, 3, 1, 1, seed=1)
A, B, V, E = full(6), full(6, seed=1), full(4, 6, 1, 1), full(4)


def test_a_channel_that_all_addends_produce_as_a_number_goes_from_all():
    dead = {"p": without(P, DEAD), "q": without(Q, DEAD)}
    graph = thinned(SUM, [(4, 3), (4, 3), (4, 4)], **dead, a=A, b=B, v=V, e=E)
    total = E + V[:, DEAD, 0, 0] @ (A + B)[DEAD]
    np.testing.assert_allclose(graph.constants[graph.nodes[-1].input(2)], total, rtol=1e-6)


def test_a_channel_that_one_addend_produces_stays():
    thinned(SUM, [(6, 3), (6, 3), (4, 6)], p=without(P, DEAD), q=Q, a=A, b=B, v=V, e=E)
    thinned(SUM, [(5, 3), (5, 3), (4, 5)], p=without(P, DEAD), q=without(Q, [4, 5]), a=A, b=B, v=V, e=E)


def test_a_channel_that_no_reader_of_the_sum_needs_goes_from_all():
    thinned(SUM, [(4, 3), (4, 3), (4, 4)], p=P, q=Q, a=A, b=B, v=without(V, (), DEAD), e=E)


def test_a_reader_of_one_addend_counts():
    more = [*SUM, node("Conv", "c u", "z")]
    V0, U = without(V, (), DEAD), full(2, 6, 1, 1)
    thinned(more, [(6, 3), (6, 3), (4, 6), (2, 6)], outputs="y z", p=P, q=Q, a=A, b=B, v=V0, e=E, u=U)
    U0 = without(U, (), [4])
    thinned(more, [(5, 3), (5, 3), (4, 5), (2, 5)], outputs="y z", p=P, q=Q, a=A, b=B, v=V0, e=E, u=U0)


def test_an_addend_that_is_an_output_keeps_all():
    zeros = {"p": without(P, DEAD), "q": without(Q, DEAD)}
    thinned(SUM, [(6, 3), (6, 3), (4, 6)], outputs="y c", **zeros, a=A, b=B, v=V, e=E)


def test_padding_behind_a_sum_needs_zeros():
    nodes = [*SUM[:3], node("Conv", "s w", "y", pads=[1] * 4)]
    zeros, w = {"p": without(P, DEAD), "q": without(Q, DEAD)}, full(4, 6, 3, 3)
    thinned(nodes, [(6, 3), (6, 3), (4, 6)], **zeros, a=A, b=B, w=w)
    opposite = B.copy()
    opposite[DEAD] = -A[DEAD]
    thinned(nodes, [(4, 3), (4, 3), (4, 4)], **zeros, a=A, b=opposite, w=w)


def test_a_sum_of_a_value_and_a_convolution_of_it():
    """The second convolution reads the channels and writes them."""
    nodes = [node("Conv", "x p a", "c"), node("Conv", "c w b", "d", pads=[1] * 4), node("Add", "d c", "s"),
             node("Relu", "s", "r"), node("Conv", "r v", "y")]  # fmt: skip
    w, a, b = without(full(6, 6, 3, 3), DEAD), without(A, DEAD), without(B, DEAD)
    thinned(nodes, [(4, 3), (4, 4), (4, 4)], p=without(P, DEAD), a=a, w=w, b=b, v=V)
    thinned(nodes, [(6, 3), (6, 6), (4, 6)], p=P, a=A, w=w, b=b, v=V)
    thinned(
        nodes, [(4, 3), (4, 4), (4, 4)], p=P, a=A, w=without(full(6, 6, 3, 3), (), DEAD), b=B, v=without(V, (), DEAD)
    )


def test_sums_of_matrix_products():
    nodes = [node("Gemm", "x p a", "c"), node("Gemm", "c w b", "d"), node("Add", "d c", "s"), node("Gemm", "s v", "y")]
    w = without(full(6, 6), (), DEAD)
    thinned(
        nodes, [(4, 3), (4, 4), (4, 4)], x={"x": (2, 3)}, p=without(full(3, 6), (), DEAD), a=A, w=w, b=B, v=full(6, 4)
    )


def test_sums_on_both_sides_of_a_depthwise_convolution_and_a_pool():
    nodes = [*SUM[:3], node("Relu", "s", "t"), node("Conv", "t k", "u", group=6, pads=[1] * 4),
             node("MaxPool", "u", "m", kernel_shape=[2, 2]), node("Conv", "x o", "n", kernel_shape=[1, 1]),
             node("MaxPool", "n", "l", kernel_shape=[2, 2]), node("Add", "l m", "z"),
             node("Conv", "z v", "y")]  # fmt: skip
    zeros = {"p": without(P, DEAD), "q": without(Q, DEAD), "o": without(full(6, 3, 1, 1, seed=2), [1, 4, 5])}
    negative = {"a": -np.abs(A), "b": -np.abs(B)}
    expected = [(4, 3), (4, 3), (4, 1), (4, 3), (4, 4)]
    thinned(nodes, expected, **zeros, **negative, k=full(6, 1, 3, 3), v=V)


def test_blocks_of_every_addend_stay_whole():
    """Pairs in one addend, groups of four in the other: what is dead in one pair alone stays."""
    rng = np.random.default_rng(0)

    def blocks(n: int, seed: int) -> np.ndarray:
        kept = np.repeat(rng.random((32 // n, 64)) < 0.4, n, axis=0)
        return (full(32, 64, seed=seed) * kept).astype(np.float32).reshape(32, 64, 1, 1)

    p, q = blocks(2, 0), blocks(4, 1)
    dead = [2, 3, 8, 9, 10, 11, 21]
    nodes = [node("Conv", "x p", "c"), node("Conv", "x q", "d"), node("Add", "c d", "s"), node("Conv", "s v", "y")]
    model = model_of(nodes, {"x": (1, 64, 3, 3)}, {"p": p, "q": q, "v": without(full(8, 32, 1, 1), (), dead)})
    graph = simplify(load_graph(model))
    assert shapes(graph) == [(28, 64), (28, 64), (8, 28)]
    assert_same(model, graph)
    kept = [*range(8), *range(12, 32)]
    np.testing.assert_array_equal(graph.constants[graph.nodes[0].inputs[1]], p[kept])


SE = [
    node("Conv", "x p a", "c"), node("GlobalAveragePool", "c", "m"), node("Conv", "m w1 b1", "s"),
    node("Relu", "s", "h"), node("Conv", "h w2 b2", "e"), node("HardSigmoid", "e", "g"), node("Mul", "c g", "t"),
    node("Conv", "t v e0", "y"),
]  # fmt: skip
GATE = {"w1": full(5, 6, 1, 1), "b1": np.abs(full(5)), "w2": full(6, 5, 1, 1, seed=1), "b2": full(6, seed=2), "e0": E}


def test_a_zero_channel_takes_its_gate_with_it():
    thinned(SE, [(4, 3), (5, 4), (4, 5), (4, 4)], p=without(P, DEAD), a=without(A, DEAD), v=V, **GATE)
    thinned(SE, [(6, 3), (5, 6), (6, 5), (4, 6)], p=without(P, DEAD), a=A, v=V, **GATE)


def test_a_constant_channel_goes_if_its_gate_is_constant():
    gate = {**GATE, "w2": without(GATE["w2"], DEAD)}
    graph = thinned(SE, [(4, 3), (5, 4), (4, 5), (4, 4)], p=without(P, DEAD), a=A, v=V, **gate)
    gates = np.clip(0.2 * gate["b2"] + 0.5, 0, 1)
    total = E + V[:, DEAD, 0, 0] @ (A * gates)[DEAD]
    np.testing.assert_allclose(graph.constants[graph.nodes[-1].input(2)], total, rtol=1e-5)


def test_a_channel_whose_mean_counts_stays():
    ignored = without(V, (), DEAD)
    thinned(SE, [(6, 3), (5, 6), (6, 5), (4, 6)], p=P, a=A, v=ignored, **GATE)
    gate = {**GATE, "w1": without(GATE["w1"], (), DEAD)}
    thinned(SE, [(4, 3), (5, 4), (4, 5), (4, 4)], p=P, a=A, v=ignored, **gate)


def test_a_gate_in_front_of_a_sum():
    nodes = [*SE[:-1], node("Add", "t c", "u"), node("Relu", "u", "r"), node("Conv", "r v", "y")]
    thinned(nodes, [(4, 3), (5, 4), (4, 5), (4, 4)], p=without(P, DEAD), a=without(A, DEAD), v=V, **GATE)
    nodes = [*SE[:-1], node("Conv", "x q b", "d"), node("Add", "t d", "u"), node("Conv", "u v", "y")]
    zeros = {"p": without(P, DEAD), "a": without(A, DEAD)}
    thinned(nodes, [(4, 3), (5, 4), (4, 5), (4, 3), (4, 4)], **zeros, q=without(Q, DEAD), b=B, v=V, **GATE)
    thinned(nodes, [(6, 3), (5, 6), (6, 5), (6, 3), (4, 6)], **zeros, q=Q, b=B, v=V, **GATE)


def test_a_gate_behind_a_concatenation():
    first = [node("Conv", "x p a", "c0"), node("Conv", "x q b", "d0"), node("Concat", "d0 c0", "c", axis=1)]
    gate = {"w1": full(5, 12, 1, 1), "b1": full(5), "w2": full(12, 5, 1, 1), "b2": full(12), "e0": E}
    zeros = {"p": without(P, DEAD), "a": without(A, DEAD), "q": without(Q, [0]), "b": without(B, [0])}
    expected = [(4, 3), (5, 3), (5, 9), (9, 5), (4, 9)]
    thinned([*first, *SE[1:]], expected, **zeros, v=full(4, 12, 1, 1), **gate)


@dataclass(frozen=True)
class Network:
    """A stem, residual blocks with or without squeeze-and-excitation, a head; some channels are planted dead.

    Trunk channels are dead because all that writes them gives zero, or because nobody reads them; hidden channels of a
    block likewise; hidden channels of its gate likewise.
    """

    seed: int
    trunk: int
    blocks: int

    def build(self):
        """Nodes, constants, and the weights' shapes without what is dead."""
        rng = np.random.default_rng(self.seed)
        nodes, constants, expected = [], {}, []

        def pick(n: int) -> np.ndarray:
            return np.flatnonzero(rng.random(n) < 0.3)[: n - 1]

        def weight(name: str, shape, rows, columns) -> str:
            constants[name] = without(
                full(*shape, seed=int(rng.integers(1000))) / np.float32(np.sqrt(np.prod(shape[1:]))), rows, columns
            )
            expected.append((shape[0], shape[1], name))
            return name

        def bias(name: str, n: int, zeros) -> str:
            constants[name] = without(full(n, seed=int(rng.integers(1000))), zeros)
            return name

        none = np.zeros(0, int)
        dead, written = pick(self.trunk), bool(rng.integers(2))
        zero, unread = (dead, none) if written else (none, dead)
        activation = rng.choice(["Relu", "HardSwish", "Tanh"])
        out = [(self.trunk - len(dead), 3)]
        nodes += [
            node("Conv", f"x {weight('w', (self.trunk, 3, 3, 3), zero, none)} {bias('b', self.trunk, zero)}", "t")
        ]
        nodes += [node(activation, "t", "v0")]
        for i in range(self.blocks):
            inner, hidden = int(rng.integers(3, 10)), int(rng.integers(2, 6))
            gone, made = pick(inner), bool(rng.integers(2))
            empty, ignored = (gone, none) if made else (none, gone)
            first = weight(f"w{i}", (inner, self.trunk, 3, 3), empty, unread)
            nodes += [node("Conv", f"v{i} {first} {bias(f'b{i}', inner, empty)}", f"c{i}", pads=[1] * 4)]
            nodes += [node("Relu", f"c{i}", f"d{i}")]
            out += [(inner - len(gone), self.trunk - len(dead))]
            last = f"d{i}"
            if rng.integers(2):
                cells, zeroed = pick(hidden), bool(rng.integers(2))
                w1 = weight(f"s{i}", (hidden, inner, 1, 1), cells if zeroed else none, ignored)
                w2 = weight(f"e{i}", (inner, hidden, 1, 1), none, none if zeroed else cells)
                nodes += [
                    node("GlobalAveragePool", last, f"m{i}"), node("Conv", f"m{i} {w1}", f"q{i}"),
                    node("Relu", f"q{i}", f"r{i}"), node("Conv", f"r{i} {w2} {bias(f'a{i}', inner, none)}", f"g{i}"),
                    node("Sigmoid", f"g{i}", f"h{i}"), node("Mul", f"{last} h{i}", f"k{i}"),
                ]  # fmt: skip
                out += [(hidden - len(cells), inner - len(gone)), (inner - len(gone), hidden - len(cells))]
                last = f"k{i}"
            second = weight(f"z{i}", (self.trunk, inner, 1, 1), zero, ignored)
            nodes += [node("Conv", f"{last} {second} {bias(f'y{i}', self.trunk, zero)}", f"o{i}")]
            nodes += [node("Add", f"o{i} v{i}" if rng.integers(2) else f"v{i} o{i}", f"p{i}")]
            nodes += [node(activation, f"p{i}", f"v{i + 1}")]
            out += [(self.trunk - len(dead), inner - len(gone))]
        nodes += [node("Conv", f"v{self.blocks} {weight('head', (7, self.trunk, 3, 3), none, unread)}", "y")]
        return nodes, constants, [*out, (7, self.trunk - len(dead))]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), trunk=st.integers(2, 12), blocks=st.integers(1, 3))
def test_planted_channels_go_and_nothing_else(seed: int, trunk: int, blocks: int):
    nodes, constants, expected = Network(seed, trunk, blocks).build()
    thinned(nodes, expected, x={"x": (2, 3, 9, 8)}, **constants)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_zeros_in_sums_and_gates(seed: int):
    nodes, constants, _ = Network(seed, 8, 2).build()
    rng = np.random.default_rng(seed)
    for name, array in constants.items():
        rows = np.flatnonzero(rng.random(len(array)) < 0.3)
        columns = np.flatnonzero(rng.random(array.shape[1]) < 0.2) if array.ndim > 1 else ()
        constants[name] = without(array, rows, columns)
    model = model_of(nodes, {"x": (2, 3, 9, 8)}, constants)
    assert_same(model, simplify(load_graph(model)))


@pytest.mark.parametrize("depth", [40])
def test_a_long_chain_falls_in_one_go(depth: int):
    """A channel without use makes the one before it useless, and so on to the first one."""
    nodes = [node("Conv", f"v{i} w{i}", f"v{i + 1}") for i in range(depth)]
    nodes.append(node("Conv", f"v{depth} last", "y"))
    diagonal = full(4, 4, 1, 1)
    diagonal[[0, 1, 2], 3] = diagonal[3, [0, 1, 2]] = 0
    constants = {f"w{i}": diagonal for i in range(1, depth)} | {"w0": P[:4], "last": without(full(2, 4, 1, 1), (), [3])}
    graph = graph_of([*nodes], {"v0": (1, 3, 4, 4)}, constants)
    after = simplify(graph)
    assert shapes(after) == [(3, 3)] * depth + [(2, 3)]
    assert remove_dead_channels(after) is after
    assert_same(graph, after)
