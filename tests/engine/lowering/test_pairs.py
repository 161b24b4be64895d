"""Layers in bf16 against float64 of what was rounded, every primitive and format, with and without the instruction."""

import numpy as np
import pytest

from engine import harness
from engine.aarch64 import needs_emulator, run_steps
from engine.bf16 import as_bf16
from engine.lowering.test_conv import CHOICES, SHAPES, make_shape, reference, sparse_weight
from secateur.engine.choice import Choice
from secateur.engine.choose import ByPrediction
from secateur.engine.layout import Flat
from secateur.engine.lowering import linear, linear_choice
from secateur.engine.lowering.context import Decision, Tensor
from secateur.engine.lowering.families import lowerings
from secateur.engine.lowering.linear_choice import Way
from secateur.engine.pitches import map_pads
from secateur.engine.program import Buffer
from secateur.engine.target import cross_target
from secateur.graph.ir import Activation, Graph, Node, TensorType

BFDOT = cross_target("neon", more=("bf16",))
# Each sum of a term is rounded to nearest: u = 2^-24. BFDOT rounds to odd, which is off by twice as much at most.
UNITS = {"avx512": 1, "avx2": 1, "neon": 2}
SHAPE_NAMES = [name for name in SHAPES if name != "to_one_pixel"]  # that is a product


def conv_graph(shape, weight, bias=None, residual=False, activation=None, slope=None) -> Graph:
    constants = {"w": weight}
    constants |= {} if bias is None else {"b": bias}
    constants |= {} if slope is None else {"slope": slope[:, None, None]}
    attributes = {
        "strides": shape.strides, "pads": shape.pads, "dilations": shape.dilations, "group": shape.groups,
        "activation": Activation(activation) if activation else None,
    }  # fmt: skip
    optional = {"b": bias is not None, "residual": residual, "slope": slope is not None}
    inputs = ("x", "w", *(name if present else "" for name, present in optional.items()))
    y = (shape.n, shape.o, shape.out_h, shape.out_w)
    types = {"x": TensorType((shape.n, shape.c, shape.h, shape.w), "float32"), "y": TensorType(y, "float32")}
    types |= {"residual": TensorType(y, "float32")} if residual else {}
    types |= {name: TensorType(array.shape, "float32") for name, array in constants.items()}
    node = Node("node", "Conv", inputs, ("y",), attributes, "secateur")
    given = ("x", "residual") if residual else ("x",)
    return Graph((node,), given, ("y",), types, constants, 20)


def computed(isa: str, graph: Graph, arrays: dict[str, np.ndarray], choice: Choice | None, split: int = 2):
    """The result of a graph's only node in bf16, and the facts about it."""
    (node,) = graph.nodes
    assert lowerings[node.op].refuses(node, graph) is None
    context, memory = harness.empty_context(isa, graph, dict(map_pads(graph))), harness.Memory()
    context.bf16, context.layer = True, node.name
    if isa == "neon":
        context.target = BFDOT
    context.choose = ByPrediction(context.target) if choice is None else lambda *about: Decision(choice)
    for name, array in arrays.items():
        layout = context.layout_of(name)
        if isinstance(layout, Flat):
            context.places[name] = Tensor(layout, Buffer(name, layout.size))
        else:
            context.places[name] = context.temporary(layout, name)
        memory.put(context.places[name], array)
    lowerings[node.op].lower(node, context)
    y = context.tensor("y")
    if isa == "neon":
        start = {name: memory.array(context.places[name].buffer) for name in arrays}
        memory.array(y.buffer)[:] = run_steps(context.steps, start, target=BFDOT, threads=split)[y.buffer.name]
    else:
        harness.run(context.steps, memory, isa, split)
    (facts,) = context.layers
    return memory.get(y), facts


def check(isa, shape, choice, *, density=0.4, seed=0, residual=False, activation=None, bits=16):
    rng = np.random.default_rng(seed)
    weight = sparse_weight(rng, shape, density)
    bias = rng.standard_normal(shape.o).astype(np.float32)
    slope = rng.random(shape.o).astype(np.float32) if activation == "prelu" else None
    arrays = {"x": rng.standard_normal((shape.n, shape.c, shape.h, shape.w)).astype(np.float32)}
    if residual:
        arrays["residual"] = rng.standard_normal((shape.n, shape.o, shape.out_h, shape.out_w)).astype(np.float32)
    graph = conv_graph(shape, weight, bias, residual, activation, slope)
    got, facts = computed(isa, graph, arrays, choice)
    given = (arrays["x"], weight) if bits == 32 else (as_bf16(arrays["x"]), as_bf16(weight))
    want, size = reference(*given, bias, shape, arrays.get("residual"), activation, slope)
    terms = shape.c // shape.groups * shape.kernel[0] * shape.kernel[1]
    bound = 1.01 * (terms + 4) * UNITS[isa] * 2.0**-24 * size + 1e-30
    assert (abs(got - want) <= bound).all(), (abs(got - want) / bound).max()
    assert facts.bits == bits
    assert facts.kernel.startswith("bf16_conv" if bits == 16 else "f32")
    assert facts.density == np.count_nonzero(weight) / weight.size
    assert facts.macs == shape.n * shape.out_h * shape.out_w * weight.size
    return facts


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize("name", SHAPE_NAMES)
def test_every_shape(name: str, isa: str) -> None:
    """With one of the choices each, another one for every processor; `test_every_choice` has all of them."""
    index = 5 * SHAPE_NAMES.index(name) + 7 * harness.ISAS.index(isa)
    check(isa, SHAPES[name], CHOICES[index % len(CHOICES)], seed=index)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice(choice: Choice) -> None:
    check(harness.ISAS[0], SHAPES["strided"], choice, seed=3)


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("choice", [CHOICES[0], CHOICES[3], CHOICES[6], CHOICES[14]], ids=str)
def test_epilogues(choice: Choice, activation: str, isa: str) -> None:
    check(isa, SHAPES["pointwise_batch"], choice, residual=True, activation=activation)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
def test_what_the_cost_model_chooses(density: float) -> None:
    facts = check(harness.ISAS[0], SHAPES["same"], None, density=density)
    assert (facts.choice.format == "dense") == (density > 0.9)


def test_groups_without_whole_pairs_and_depthwise_layers_stay_float32() -> None:
    isa = harness.ISAS[0]
    check(isa, make_shape(1, 9, 6, 7, 6, (3, 3), groups=3), CHOICES[3], bits=32)
    check(isa, make_shape(1, 6, 6, 7, 6, (3, 3), groups=6), None, bits=32)


@pytest.mark.parametrize(
    "value", [np.inf, -np.inf, np.nan, np.float32(3.4e38), np.float32(1e-40)], ids=["inf", "-inf", "nan", "big", "tiny"]
)
def test_one_odd_number_reaches_the_pixels_that_it_should(value: float) -> None:
    """In the last channel, whose partner is missing: no product of infinity and the missing weight may come about."""
    shape = SHAPES["pointwise"]
    weight = np.full((shape.o, shape.c, 1, 1), 0.5, np.float32)
    x = np.ones((1, shape.c, shape.h, shape.w), np.float32)
    x[0, -1, 3, 4] = value
    (got, _) = computed(harness.ISAS[0], conv_graph(shape, weight), {"x": x}, CHOICES[0])
    want = np.full(got.shape, 0.5 * shape.c)
    want[:, :, 3, 4] = 0.5 * (shape.c - 1) + 0.5 * as_bf16(np.float32([value]))[0]
    np.testing.assert_array_equal(got, want.astype(np.float32))


def test_values_read_by_two_layers_are_rounded_once() -> None:
    shape = SHAPES["same"]
    weight = sparse_weight(np.random.default_rng(0), shape, 1.0)
    one = conv_graph(shape, weight)
    nodes = tuple(
        Node(name, "Conv", ("x", "w", "", "", ""), (name,), one.nodes[0].attributes, "secateur") for name in ("y", "z")
    )
    graph = Graph(nodes, ("x",), ("y", "z"), one.types | {"z": one.types["y"]}, one.constants, 20)
    context = harness.empty_context(harness.ISAS[0], graph, dict(map_pads(graph)))
    context.bf16, context.choose = True, ByPrediction(context.target)
    context.places["x"] = context.temporary(context.layout_of("x"), "x")
    for node in nodes:
        lowerings["Conv"].lower(node, context)
    assert [step.kernel.name for step in context.steps].count("bf16_pair_planes") == 1


def check_product(isa, rows, weight, *, choice=None, residual=False, activation=None, seed=0, split=2):
    rng = np.random.default_rng(seed)
    outputs, inputs = weight.shape
    arrays = {"x": rng.standard_normal((rows, inputs)).astype(np.float32)}
    if residual:
        arrays["residual"] = rng.standard_normal((rows, outputs)).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32)
    types = {name: TensorType(array.shape, "float32") for name, array in arrays.items()}
    types |= {"w": TensorType(weight.shape, "float32"), "b": TensorType(bias.shape, "float32")}
    types |= {"y": TensorType((rows, outputs), "float32")}
    act = Activation(activation) if activation else None
    names = ("x", "w", "b", "residual" if residual else "")
    node = Node("node", "Linear", names, ("y",), {"activation": act}, "secateur")
    graph = Graph((node,), tuple(arrays), ("y",), types, {"w": weight, "b": bias}, 20)
    got, facts = computed(isa, graph, arrays, choice, split)
    x, w = as_bf16(arrays["x"]).astype(np.float64), as_bf16(weight).astype(np.float64)
    want, size = x @ w.T + bias, abs(x) @ abs(w.T) + abs(bias)
    if residual:
        want, size = want + arrays["residual"], size + abs(arrays["residual"])
    want = np.maximum(want, 0) if activation == "relu" else want
    bound = 1.01 * (inputs + 4) * UNITS[isa] * 2.0**-24 * size + 1e-30
    assert (abs(got - want) <= bound).all(), (abs(got - want) / bound).max()
    assert facts.bits == 16
    assert facts.density == np.count_nonzero(weight) / weight.size
    return facts


def sparse(outputs: int, inputs: int, density: float, block: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kept = np.repeat(rng.random((-(-outputs // block), inputs)) < density, block, 0)[:outputs]
    return (rng.standard_normal((outputs, inputs)) * kept).astype(np.float32)


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize("rows", [1, 2, 5, 17])
def test_products(rows: int, isa: str) -> None:
    for inputs, density, block in ((50, 1.0, 1), (37, 0.3, 1), (64, 0.2, 4), (1, 1.0, 1), (33, 0.0, 1)):
        check_product(isa, rows, sparse(45, inputs, density, block), residual=inputs == 37, activation="relu")


@pytest.mark.parametrize("isa", harness.ISAS)
@pytest.mark.parametrize("block", [0, 1, 4, 8])
def test_gathered_products(block: int, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "choose_way", lambda *about, **how: (Way(0.0, block), ""))
    for rows, density in ((1, 0.2), (6, 0.5), (2, 0.0)):
        facts = check_product(isa, rows, sparse(43, 29, density, max(block, 1)), seed=block)
        assert facts.kernel.startswith("bf16_linear_" + ("sparse" if block else "dense"))


@pytest.mark.parametrize("choice", [Choice("block", "direct", 4, 3), Choice("panel", "pack", 2, 2)], ids=str)
def test_rows_as_pixels(choice: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_choice, "dense_cycles", lambda *about: float("inf"))
    monkeypatch.setattr(linear_choice, "gathered_cycles", lambda *about: float("inf"))
    for rows, inputs in ((6, 30), (17, 21), (40, 1)):
        facts = check_product(harness.ISAS[0], rows, sparse(22, inputs, 0.3), choice=choice, residual=rows == 17)
        assert facts.kernel.startswith("bf16_conv")


def test_a_map_that_becomes_one_pixel_is_a_product() -> None:
    shape = SHAPES["to_one_pixel"]
    rng = np.random.default_rng(0)
    weight, x = sparse_weight(rng, shape, 0.7), rng.standard_normal((2, 4, 3, 3)).astype(np.float32)
    got, facts = computed(harness.ISAS[0], conv_graph(shape, weight), {"x": x}, None)
    want, size = reference(as_bf16(x), as_bf16(weight), None, shape)
    assert (abs(got - want) <= 1.01 * 40 * 2.0**-24 * size).all()
    assert facts.kernel.startswith("bf16_linear")


@needs_emulator
@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("same", CHOICES[0]), ("stem", CHOICES[2]), ("pointwise_batch", CHOICES[5]), ("grouped", CHOICES[3]),
        ("strided", CHOICES[8]), ("row", CHOICES[14]), ("dilated", CHOICES[6]),
    ],
    ids=str,
)  # fmt: skip
def test_convolutions_on_aarch64(name: str, choice: Choice) -> None:
    check("neon", SHAPES[name], choice, residual=name == "same", activation="relu")


@needs_emulator
@pytest.mark.parametrize(("rows", "density"), [(1, 1.0), (3, 0.15), (20, 0.2)])
def test_products_on_aarch64(rows: int, density: float) -> None:
    check_product("neon", rows, sparse(45, 67, density), residual=True, activation="relu")
