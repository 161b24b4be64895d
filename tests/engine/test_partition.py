"""Parts of a network: closed, in order, and no light part of ours between ONNX Runtime's."""

import numpy as np
import onnx
from onnx import helper

from engine.networks import model, reference, value, zeroed
from secateur.engine.partition import partition
from secateur.engine.session import compile_onnx
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify

SIDES = [1, 8, 8, 8]


def chain(*ops: str) -> onnx.ModelProto:
    """One node of each operator in a row; a Conv has 8 channels. Det is an operator that nobody lowers."""
    nodes, constants, last = [], {}, "x"
    for index, op in enumerate(ops):
        out = f"v{index}"
        more = {"Conv": [f"w{index}"], "CumSum": ["axis"]}.get(op, [])
        if op == "Conv":
            constants[f"w{index}"] = zeroed((8, 8, 1, 1), 0.5, 4, index)
        if op == "CumSum":
            constants["axis"] = np.array(3, np.int64)
        nodes.append(helper.make_node(op, [last, *more], [out], f"{op.lower()}{index}"))
        last = out
    return model(nodes, [value("x", SIDES)], [value(last, SIDES)], constants)


def parts_of(proto: onnx.ModelProto) -> list[tuple[bool, list[str]]]:
    divided = partition(simplify(load_graph(proto)))
    return [(part.native, [node.name for node in part.graph.nodes]) for part in divided.parts]


def test_a_network_whose_nodes_all_have_kernels_is_one_part() -> None:
    assert parts_of(chain("Conv", "Conv")) == [(True, ["conv0", "conv1"])]


def test_a_node_without_kernel_stands_between_two_native_parts() -> None:
    assert parts_of(chain("Conv", "CumSum", "Conv")) == [(True, ["conv0"]), (False, ["cumsum1"]), (True, ["conv2"])]


def test_a_native_part_without_work_goes_with_its_neighbours() -> None:
    proto = chain("Conv", "CumSum", "Sigmoid", "CumSum", "Conv")
    assert parts_of(proto) == [(True, ["conv0"]), (False, ["cumsum1", "sigmoid2", "cumsum3"]), (True, ["conv4"])]


def test_no_path_leaves_a_part_and_comes_back() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("CumSum", ["a", "axis"], ["b"], "cumsum"),
        helper.make_node("Add", ["a", "b"], ["c"], "sum"),
        helper.make_node("Conv", ["c", "w"], ["y"], "late"),
    ]
    constants = {"w": zeroed((8, 8, 1, 1), 0.5, 4), "axis": np.array(3, np.int64)}
    proto = model(nodes, [value("x", SIDES)], [value("y", SIDES)], constants)
    written: set[str] = {"x"}
    for part in partition(simplify(load_graph(proto))).parts:
        assert set(part.graph.inputs) <= written
        written |= set(part.graph.outputs)
    x = np.random.default_rng(0).standard_normal(SIDES).astype(np.float32)
    np.testing.assert_allclose(compile_onnx(proto).run(x)["y"], reference(proto, {"x": x})[0], rtol=1e-4, atol=1e-4)


def test_a_branch_that_reads_a_value_from_outside_its_body_gets_it() -> None:
    """`If` in ONNX Runtime, whose bodies read what a convolution of ours wrote."""
    bodies = {
        name: helper.make_graph([helper.make_node(op, ["a"], [f"{name}.y"])], name, [], [value(f"{name}.y", SIDES)])
        for name, op in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("If", ["positive"], ["y"], "if", then_branch=bodies["then"], else_branch=bodies["else"]),
    ]
    inputs = [value("x", SIDES), value("positive", [], onnx.TensorProto.BOOL)]
    proto = model(nodes, inputs, [value("y", SIDES)], {"w": zeroed((8, 8, 1, 1), 0.5, 4)})
    session = compile_onnx(proto)
    x = np.random.default_rng(0).standard_normal(SIDES).astype(np.float32)
    for positive in (True, False):
        feeds = {"x": x, "positive": np.array(positive)}
        np.testing.assert_allclose(session.run(feeds)["y"], reference(proto, feeds)[0], rtol=1e-4, atol=1e-5)
    assert "If" in str(session.report())
