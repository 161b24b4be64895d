"""Matrix products: dense, gathered and as pixels of a convolution, for every number of rows."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import secateur.engine.lowering.families  # noqa: F401  (registers lowerings)
from engine.harness import ISAS, TARGETS, Memory, empty_context, run
from engine.networks import model, reference, value, zeroed
from engine.peers import filled
from secateur.engine.choice import Choice
from secateur.engine.choose import ByPrediction
from secateur.engine.facts import LayerFacts
from secateur.engine.lowering import linear as lowering
from secateur.engine.lowering import linear_choice
from secateur.engine.lowering.context import Decision, lowerings
from secateur.engine.lowering.linear import block_diagonal
from secateur.engine.lowering.linear_choice import Way
from secateur.engine.lowering.linear_cost import gathered_entries
from secateur.engine.registers import product_tile
from secateur.engine.session import compile_onnx
from secateur.engine.weights.pattern import detect
from secateur.engine.weights.slabs import sparse_slabs
from secateur.graph.ir import Activation, Graph, Node, TensorType

DENSITIES = [(1.0, 1), (0.5, 1), (0.1, 1), (0.1, 4), (0.2, 16), (0.15, 3), (0.0, 1)]


def sparse(rng, outputs: int, inputs: int, density: float, block: int) -> np.ndarray:
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    kept = rng.random((-(-outputs // block), inputs)) < density
    return weight * np.repeat(kept, block, axis=0)[:outputs]


def check(isa, sides, outputs, weight, *, activation=None, residual=False, choice=None, seed=0) -> LayerFacts:
    rng = np.random.default_rng(seed)
    inputs = weight.shape[1]
    x = rng.standard_normal((*sides, inputs)).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32) if seed % 3 else None
    added = rng.standard_normal((*sides, outputs)).astype(np.float32)
    want = x.astype(np.float64) @ weight.T.astype(np.float64)
    size = abs(x).astype(np.float64) @ abs(weight.T).astype(np.float64)
    if bias is not None:
        want, size = want + bias, size + abs(bias)
    if residual:
        want, size = want + added, size + abs(added)
    if activation == "relu":
        want = np.maximum(want, 0)
    constants = {"w": weight} | ({} if bias is None else {"b": bias})
    given = {"x": x} | ({"r": added} if residual else {})
    types = {name: TensorType(array.shape, "float32") for name, array in (given | constants).items()}
    types["y"] = TensorType((*sides, outputs), "float32")
    names = ("x", "w", "" if bias is None else "b", "r" if residual else "")
    node = Node(
        "node", "Linear", names, ("y",), {"activation": Activation(activation) if activation else None}, "secateur"
    )
    graph = Graph((node,), tuple(given), ("y",), types, constants, 20)
    assert lowerings["Linear"].refuses(node, graph) is None
    context, memory = empty_context(isa, graph), Memory()
    context.choose = (lambda *about: Decision(choice)) if choice else ByPrediction(TARGETS[isa])
    for name, array in given.items():
        context.places[name] = filled(context, memory, name, array)
    context.layer = "node"
    lowerings["Linear"].lower(node, context)
    run(context.steps, memory, isa, 2)
    got = memory.get(context.tensor("y"))
    bound = 1.01 * (inputs + 4) * 2.0**-24 * size + 1e-30
    assert (abs(got - want) <= bound).all(), abs(got - want).max()
    (facts,) = context.layers
    assert facts.macs == int(np.prod(sides)) * weight.size
    assert facts.density == np.count_nonzero(weight) / weight.size
    return facts


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 16, 17, 40])
def test_any_number_of_rows(rows: int, isa: str) -> None:
    rng = np.random.default_rng(rows)
    for index, (density, block) in enumerate(DENSITIES):
        weight = sparse(rng, 50, 37, density, block)
        check(isa, (rows,), 50, weight, residual=bool(index % 2), activation="relu", seed=index)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("block", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("rows", [1, 5])
def test_gathered_blocks(rows: int, block: int, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    way = Way(0.0, min(block, TARGETS[isa].lanes))
    monkeypatch.setattr(lowering, "choose_way", lambda *about, **how: (way, ""))
    for density in (0.0, 0.2, 1.0):
        weight = sparse(np.random.default_rng(block), 43, 29, density, block)
        facts = check(isa, (rows,), 43, weight, activation="relu", seed=block)
        assert "sparse" in facts.kernel


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "choice",
    [
        Choice("block", "direct", 4, 3), Choice("block", "pack", 2, 2, block=7), Choice("panel", "direct", 2, 4),
        Choice("panel", "pack", 3, 2, block=10), Choice("panel", "direct", 1, 5), Choice("dense", "direct", 6, 2),
    ],
    ids=str,
)  # fmt: skip
def test_rows_as_pixels(choice: Choice, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_choice, "dense_cycles", lambda *about: float("inf"))
    monkeypatch.setattr(linear_choice, "gathered_cycles", lambda *about: float("inf"))
    for sides in ((6,), (17,), (2, 3, 7), (197,)):
        weight = sparse(np.random.default_rng(1), 21, 30, 0.3, 1)
        facts = check(isa, sides, 21, weight, choice=choice, residual=len(sides) > 1, activation="relu", seed=2)
        assert (facts.choice == choice) == (choice.format != "dense")


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 64])
def test_zeros_are_ignored_where_that_is_asked_for(rows: int) -> None:
    constants = {"w": zeroed((512, 768), 0.95)}
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)]
    proto = model(nodes, [value("x", [rows, 768])], [value("y", [rows, 512])], constants)
    (sparse,) = compile_onnx(proto, threads=1).report().layers
    (dense,) = compile_onnx(proto, threads=1, format="dense").report().layers
    assert sparse.weight_bytes < constants["w"].nbytes / 4
    assert dense.kernel.startswith("f32_linear_dense") and dense.weight_bytes >= constants["w"].nbytes
    assert dense.reason == ""


@pytest.mark.parametrize("format", ["auto", "dense"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(12, 18, 3), (64, 64, 4), (40, 40, 40), (20, 40, 20)])
def test_groups_of_one_pixel_are_one_product(inputs: int, outputs: int, groups: int, batch: int, format: str) -> None:
    weight = np.random.default_rng(0).standard_normal((outputs, inputs // groups, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], group=groups), helper.make_node("Relu", ["c"], ["y"])]
    proto = model(
        nodes, [value("x", [batch, inputs, 1, 1])], [value("y", [batch, outputs, 1, 1])],
        {"w": weight, "b": np.linspace(-1, 1, outputs, dtype=np.float32)},
    )  # fmt: skip
    session = compile_onnx(proto, threads=1, format=format)
    x = np.random.default_rng(1).standard_normal((batch, inputs, 1, 1)).astype(np.float32)
    np.testing.assert_allclose(session.run(x)["y"], reference(proto, {"x": x})[0], rtol=1e-5, atol=1e-6)
    (facts,) = session.report().layers
    assert facts.operator == ("depthwise" if groups == inputs == outputs else "grouped conv")
    assert facts.macs == facts.work == batch * weight.size and facts.density == 1 and facts.reason == ""
    assert ("linear" in facts.kernel) == (format == "auto")


def test_a_block_diagonal_matrix() -> None:
    whole = block_diagonal(np.arange(12, dtype=np.float32).reshape(6, 2), 3)
    assert whole[:2, :2].tolist() == [[0, 1], [2, 3]] and whole[4:, 4:].tolist() == [[8, 9], [10, 11]]
    assert whole.shape == (6, 6) and np.count_nonzero(whole) == 11


# Rows, inputs, outputs, sparsity, block: the fastest way by far when all were timed in turns on Cascade Lake.
MEASURED = [
    (1, 256, 256, 0.8, 1, "dense"), (1, 256, 256, 0.8, 4, "gathered"), (6, 256, 256, 0.95, 1, "dense"),
    (24, 256, 256, 0.95, 1, "pixels"), (2, 768, 768, 0.8, 1, "gathered"), (4, 768, 768, 0.8, 4, "gathered"),
    (4, 768, 768, 0.5, 1, "dense"), (8, 768, 768, 0.8, 1, "pixels"), (64, 768, 768, 0.5, 4, "pixels"),
    (1, 2048, 1000, 0.8, 1, "gathered"), (3, 2048, 1000, 0.8, 1, "pixels"), (8, 2048, 1000, 0.8, 1, "pixels"),
    (16, 2048, 1000, 0.8, 1, "pixels"), (3, 2048, 1000, 0.5, 4, "gathered"), (8, 2048, 1000, 0.5, 1, "dense"),
    (64, 1024, 4096, 0.8, 4, "pixels"), (6, 1024, 4096, 0.8, 1, "pixels"), (1, 4096, 1024, 0.9, 4, "gathered"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "inputs", "outputs", "sparsity", "block", "way"), MEASURED)
def test_the_way_that_measured_fastest(
    rows: int, inputs: int, outputs: int, sparsity: float, block: int, way: str
) -> None:
    weight, context = zeroed((outputs, inputs), sparsity, block), empty_context("avx512")
    context.choose = ByPrediction(context.target)
    chosen, reason = linear_choice.choose_way(context, "layer", rows, weight, detect(weight))
    assert ("pixels" if chosen.choice else "gathered" if chosen.block else "dense") == way
    assert bool(reason) == (way == "dense")


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("block", [1, 2, 4, 8])
def test_entries_are_counted_as_they_are_stored(block: int, lanes: int) -> None:
    for outputs in (5, 16, 33):
        weight = zeroed((outputs, 40), 0.7)
        assert gathered_entries(weight, block, lanes) == sparse_slabs(weight, lanes, block).starts[-1]


@given(
    rows=st.integers(1, 40), outputs=st.integers(1, 70), inputs=st.integers(1, 50), density=st.floats(0, 1),
    block=st.sampled_from([1, 2, 4, 8, 16]), seed=st.integers(0, 99), residual=st.booleans(),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_any_numbers(rows, outputs, inputs, density, block, seed, residual) -> None:
    weight = sparse(np.random.default_rng(seed), outputs, inputs, density, block)
    check(ISAS[0], (rows,), outputs, weight, seed=seed, residual=residual)


@pytest.mark.parametrize("registers", [16, 32])
def test_tiles_fit_the_registers(registers: int) -> None:
    target = TARGETS["avx2" if registers == 16 else "avx512"]
    for rows in (1, 2, 3, 5, 6, 7, 16, 197):
        for outputs in (1, 10, 100, 1000):
            slab, together = product_tile(rows, outputs, 2, target)
            assert slab * together + slab + 1 <= registers
            assert 1 <= together <= rows


def test_one_row_uses_independent_sums() -> None:
    assert product_tile(1, 1000, 1, TARGETS["avx512"])[0] >= 6


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 16, 17])
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_a_classifier_of_any_batch(batch: int, sparsity: float) -> None:
    """Gemm, MatMul with residual, a convolution of the whole map, squeeze-and-excitation's 1x1 maps with PReLU."""
    proto = _network(sparsity)
    x = np.random.default_rng(1).standard_normal((batch, 8, 5, 4)).astype(np.float32)
    want = reference(proto, {"x": x})
    session = compile_onnx(proto, threads=2)
    for name, expected in zip(("y", "z"), want, strict=True):
        np.testing.assert_allclose(session.run({"x": x})[name], expected, rtol=1e-4, atol=1e-5)


def _network(sparsity: float) -> onnx.ModelProto:
    constants = {
        "whole": zeroed((24, 8, 5, 4), sparsity, 1, 0),
        "slope": np.linspace(0, 1, 24, dtype=np.float32).reshape(24, 1, 1),
        "squeeze": zeroed((12, 24, 1, 1), sparsity, 4, 1),
        "grouped": zeroed((12, 4, 1, 1), sparsity, 1, 2),
        "a": zeroed((20, 12), sparsity, 1, 3),
        "a.bias": np.arange(20, dtype=np.float32),
        "b": zeroed((20, 20), sparsity, 4, 4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "whole"], ["c"]),
        helper.make_node("PRelu", ["c", "slope"], ["d"]),
        helper.make_node("Conv", ["d", "squeeze"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("Conv", ["f", "grouped"], ["z"], group=3),
        helper.make_node("Flatten", ["z"], ["g"]),
        helper.make_node("Gemm", ["g", "a", "a.bias"], ["h"], transB=1),
        helper.make_node("MatMul", ["h", "b"], ["i"]),
        helper.make_node("Add", ["i", "h"], ["y"]),
    ]
    outputs = [value("y", ["n", 20]), value("z", ["n", 12, 1, 1])]
    return model(nodes, [value("x", ["n", 8, 5, 4])], outputs, constants)
