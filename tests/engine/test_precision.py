"""Whole networks in bf16: against ONNX Runtime with the same roundings written into the file, and against float32.

This machine may lack the instruction; then its plain form computes, which users cannot ask for.
"""

from collections.abc import Collection

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import secateur
from engine.aarch64 import needs_emulator, run_steps
from engine.bf16 import as_bf16
from engine.networks import classifier, images, model, reference, value, zeroed
from secateur.engine import session as sessions
from secateur.engine.choose import ByPrediction
from secateur.engine.compile import lower
from secateur.engine.options import check_precision
from secateur.engine.session import compile_onnx
from secateur.engine.target import cross_target
from secateur.errors import EngineError
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.measure import Failure, Subject, benchmark, installed_runtimes, runtimes

NODE = helper.make_node


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the processor has the instruction."""
    monkeypatch.setattr(sessions, "check_precision", lambda *about: None)


def all_kinds() -> onnx.ModelProto:
    """A stem of 3 channels; depthwise, grouped, transposed layers; sum, concatenation, pooling; zeros of all kinds."""
    constants = {
        "stem": zeroed((12, 3, 3, 3), 0.0, seed=1),
        "depthwise": zeroed((12, 1, 3, 3), 0.0, seed=2),
        "point": zeroed((16, 12, 1, 1), 0.75, 4, seed=3),
        "even": zeroed((16, 8, 3, 3), 0.85, seed=4),
        "odd": zeroed((15, 3, 3, 3), 0.0, seed=5),
        "up": zeroed((20, 6, 2, 2), 0.0, seed=6),
        "down": zeroed((24, 6, 3, 3), 0.95, seed=7),
        "fc": zeroed((10, 24), 0.5, seed=8),
        "b": np.linspace(-1, 1, 10, dtype=np.float32),
    }
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        NODE("Conv", ["x", "stem"], ["a"], "stem", strides=[2, 2], **same),
        NODE("Relu", ["a"], ["b1"], "relu"),
        NODE("Conv", ["b1", "depthwise"], ["c"], "depthwise", group=12, **same),
        NODE("Conv", ["c", "point"], ["d"], "point"),
        NODE("Conv", ["d", "even"], ["e"], "even", group=2, **same),
        NODE("Add", ["d", "e"], ["f"], "sum"),
        NODE("Slice", ["f", "zero", "fifteen", "one"], ["g"], "part"),
        NODE("Conv", ["g", "odd"], ["h"], "odd", group=5, **same),
        NODE("Concat", ["h", "five"], ["i"], "concat", axis=1),
        NODE("Slice", ["f", "zero", "five_", "one"], ["five"], "five"),
        NODE("ConvTranspose", ["i", "up"], ["j"], "up", strides=[2, 2]),
        NODE("Conv", ["j", "down"], ["k"], "down", strides=[2, 2], **same),
        NODE("MaxPool", ["k"], ["l"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        NODE("GlobalAveragePool", ["l"], ["m"], "mean"),
        NODE("Flatten", ["m"], ["n"], "flatten"),
        NODE("Gemm", ["n", "fc", "b"], ["y"], "fc", transB=1),
    ]
    nodes[8], nodes[9] = nodes[9], nodes[8]
    numbers = {"zero": 0, "one": 1, "five_": 5, "fifteen": 15}
    constants |= {name: np.array([number]) for name, number in numbers.items()}
    return model(nodes, [value("x", ["n", 3, 15, 17])], [value("k", ["n", 24, 8, 9]), value("y", ["n", 10])], constants)


FLOATS = ("depthwise", "odd", "up")


def with_roundings(proto: onnx.ModelProto, but: Collection[str] = ()) -> onnx.ModelProto:
    """The same network whose convolutions and products round what they multiply, some layers aside."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in made.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        if node.op_type in ("Conv", "Gemm") and node.name not in but:
            x, w = node.input[:2]
            nodes.append(NODE("Cast", [x], [f"bf16 for {node.name}"], to=TensorProto.BFLOAT16))
            nodes.append(NODE("Cast", [f"bf16 for {node.name}"], [f"x for {node.name}"], to=TensorProto.FLOAT))
            node.input[0] = f"x for {node.name}"
            weights[w] = as_bf16(weights[w])
        nodes.append(node)
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return made


def distance(ours: dict[str, np.ndarray], theirs: list[np.ndarray]) -> float:
    """The greatest difference in units of the greatest number, over all outputs."""
    pairs = zip(ours.values(), theirs, strict=True)
    return max(float(abs(mine - other).max() / abs(other).max()) for mine, other in pairs)


NETWORKS = {"classifier": (classifier, ()), "all kinds": (all_kinds, FLOATS)}


def feeds_of(proto: onnx.ModelProto, batch: int) -> dict[str, np.ndarray]:
    name = proto.graph.input[0].name
    sides = [side.dim_value for side in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    return {name: np.random.default_rng(1).standard_normal((batch, *sides)).astype(np.float32)}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, batch: int, anywhere: None) -> None:
    make, floats = NETWORKS[name]
    proto = make()
    feeds = feeds_of(proto, batch)
    with compile_onnx(proto, threads=1, batch=batch, precision="bf16") as session:
        ours = session.run(feeds)
        bits = {fact.layer: fact.bits for fact in session.report().layers}
    assert bits == {layer: 32 if layer in floats else 16 for layer in bits}
    assert distance(ours, reference(with_roundings(proto, floats), feeds)) < 2e-6
    assert 2e-5 < distance(ours, reference(proto, feeds)) < 2e-2, "it is rounded, and not by more than 8 bits"
    with compile_onnx(proto, threads=2, batch=batch, precision="bf16") as session:
        for output, array in session.run(feeds).items():
            np.testing.assert_array_equal(array, ours[output], "threads change nothing")


@pytest.mark.parametrize("primitive", ["direct", "gemm", "pack"])
@pytest.mark.parametrize("format", ["auto", "dense"])
def test_every_primitive(primitive: str, format: str, anywhere: None) -> None:
    proto = all_kinds()
    feeds = feeds_of(proto, 2)
    with compile_onnx(proto, threads=1, batch=2, precision="bf16", primitive=primitive, format=format) as session:
        assert distance(session.run(feeds), reference(with_roundings(proto, FLOATS), feeds)) < 2e-6


def test_maps_in_tiles(anywhere: None) -> None:
    """Large maps between pointwise convolutions; one strides over them, one is added to."""
    shapes = {"a": (32, 16, 1, 1), "b": (48, 32, 1, 1), "c": (48, 48, 1, 1), "d": (8, 48, 1, 1), "e": (8, 48, 1, 1)}
    constants = {name: zeroed(shape, 0.5, seed=len(name)) for name, shape in shapes.items()}
    nodes = [
        NODE("Conv", ["x", "a"], ["p"], "a"),
        NODE("Conv", ["p", "b"], ["q"], "b"),
        NODE("Conv", ["q", "c"], ["r"], "c"),
        NODE("Add", ["q", "r"], ["s"], "sum"),
        NODE("Conv", ["s", "d"], ["y"], "d"),
        NODE("Conv", ["s", "e"], ["z"], "e", strides=[2, 2]),
    ]
    outputs = [value("y", [2, 8, 30, 31]), value("z", [2, 8, 15, 16])]
    proto = model(nodes, [value("x", [2, 16, 30, 31])], outputs, constants)
    feeds = feeds_of(proto, 2)
    with compile_onnx(proto, threads=2, precision="bf16") as session:
        ours = session.run(feeds)
        steps = [step for part in session._latest().parts for step in part.program.program.steps]
    conversions = [step for step in steps if step.kernel.name == "bf16_pair_planes"]
    assert len(conversions) == 4, "s is rounded once for both of its readers"
    assert any(len(step.writes) == 1 and step.writes[0].group == "flat" for step in conversions), "some lie in tiles"
    assert distance(ours, reference(with_roundings(proto), feeds)) < 2e-6


def test_tuned_and_profiled(anywhere: None) -> None:
    proto = classifier("batch", 8)
    with compile_onnx(proto, threads=1, tune=True, precision="bf16") as session:
        feeds = feeds_of(classifier(1, 8), 1)
        assert distance(session.run(feeds), reference(with_roundings(proto), feeds)) < 2e-6
        profile = str(session.profile(feeds, rounds=1))
        facts = session.report().layers
    assert "4 of 4 layers multiply numbers rounded to bf16 and sum them in float32" in profile
    assert "bf16 dense" in profile
    assert facts[1].candidates, "it was timed"


def test_float32_is_the_default_and_says_nothing_of_bf16() -> None:
    with compile_onnx(classifier(), threads=1) as session:
        assert session.options.precision == "float32"
        assert "bf16" not in str(session.report()) + str(list(session.kernels()))


def test_processors_without_it_are_refused_in_a_sentence() -> None:
    for isa, more in (("avx512", ("avx512bf16",)), ("neon", ("bf16",))):
        check_precision("bf16", cross_target(isa, more=more))
    for isa, missing in (("avx512", "avx512_bf16"), ("avx2", "avx512_bf16"), ("neon", "bf16")):
        target = cross_target(isa)
        with pytest.raises(EngineError, match=rf"{target.cpu}, compiled for {isa}\) {missing} is missing\. Use pre"):
            check_precision("bf16", target)
        check_precision("float32", target)
    with pytest.raises(EngineError, match="precision 'fp16' is unknown; it can be float32, bf16"):
        check_precision("fp16", cross_target("avx512"))


def test_wherever_a_network_is_compiled_the_sentence_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(sessions, "host_target", lambda: cross_target("avx512", "cascadelake"))
    file = tmp_path / "net.onnx"
    onnx.save(classifier(), file)
    sentence = "cascadelake, .* avx512_bf16 is missing. Use precision='float32'"
    for make in (compile_onnx, secateur.compile, secateur.InferenceSession):
        with pytest.raises(EngineError, match=sentence):
            make(str(file), precision="bf16")
    (row,) = benchmark(
        [Subject("net", onnx=file)], runtime_names=["secateur-bf16"], threads=[1], input_shape=(3, 16, 16), repeats=1
    ).rows
    assert row.failure is not None and row.failure.category == Failure.NOT_SUPPORTED
    assert "avx512_bf16 is missing" in row.failure.message


def test_the_benchmark_runs_it_only_where_it_is_named(anywhere: None, tmp_path) -> None:
    assert runtimes["secateur-bf16"]().available() is None
    assert "secateur" in installed_runtimes() and "secateur-bf16" not in installed_runtimes()
    file = tmp_path / "net.onnx"
    onnx.save(classifier(), file)
    x = images(2)
    ours = runtimes["secateur-bf16"]().load(Subject("net", onnx=file), 1, 2)(x)
    assert distance({"logits": ours}, reference(with_roundings(classifier()), {"input": x})) < 2e-6


@needs_emulator
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_on_aarch64(name: str) -> None:
    """The instruction itself computes, on two threads."""
    make, floats = NETWORKS[name]
    proto, target = make(), cross_target("neon", more=("bf16",))
    feeds = feeds_of(proto, 2)
    graph = simplify(load_graph(proto, batch=2))
    program, facts = lower(graph, target, 2, ByPrediction(target), bf16=True)
    assert {fact.layer for fact in facts if fact.bits == 16}.isdisjoint(floats)
    results = run_steps(program.steps, feeds, target=target, threads=2)
    ours = {port.name: results[port.buffer.name].reshape(port.shape) for port in program.outputs}
    assert distance(ours, reference(with_roundings(proto, floats), feeds)) < 4e-6
    assert 2e-5 < distance(ours, reference(proto, feeds)) < 2e-2
