"""ONNX files with values whose shape nothing can tell: what reaches them stays, the rest is free."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from channels.onnx_topologies import PADDED, conv, distance, model, run, zeroed
from secateur.channels import plan_channels_onnx, remove_channels_onnx, thin_plan_onnx
from secateur.channels.onnx_trace import groups_of_onnx

STEM = f"a = Conv{PADDED}(x, a.weight, a.bias) r = Relu(a)"


def opened(nodes: str, weights, y: str = "A,B", opset: int = 17) -> onnx.ModelProto:
    """A file whose output does not say its shape."""
    file = model(f"{STEM} {nodes} y = Identity(last)", {**conv("a", 8, 3), **weights}, x="1,3,8,8", y=y, opset=opset)
    file.graph.output[0].type.tensor_type.ClearField("shape")
    return file


def positions_of_nonzeros() -> onnx.ModelProto:
    nodes = "b = Conv(r, b.weight, b.bias) n = NonZero(b) last = Cast<to = 1>(n)"
    return opened(nodes, conv("b", 5, 8, 1))


def detections() -> onnx.ModelProto:
    nodes = """
        b = Conv(r, b.weight, b.bias) flat = Reshape(b, five) scores = Sigmoid(flat)
        four = Slice(flat, start, end, axis) boxes = Transpose<perm = [0, 2, 1]>(four)
        picked = NonMaxSuppression(boxes, scores, most, overlap, least) which = Gather<axis = 1>(picked, two)
        places = Squeeze(boxes, start) last = Gather<axis = 0>(places, which)
    """
    numbers = {
        "five": np.array([1, 5, 64]), "start": np.array([0]), "end": np.array([4]), "axis": np.array([1]),
        "most": np.array([10]), "overlap": np.array([0.5], np.float32), "least": np.array([0.1], np.float32),
        "two": np.array(2),
    }  # fmt: skip
    return opened(nodes, {**conv("b", 5, 8, 1), **numbers})


def group_norm() -> onnx.ModelProto:
    """Of opset 18: ONNX itself calls it deprecated and does not infer its result, runtimes compute it."""
    nodes = "b = Conv(r, b.weight, b.bias) g = Identity(b) last = Conv(g, c.weight, c.bias)"
    weights = {**conv("b", 6, 8, 1), "scale": (2,), "shift": (2,), **conv("c", 5, 6, 1)}
    file = opened(nodes, weights, "N,5,8,8", opset=18)
    norm = next(node for node in file.graph.node if node.output[0] == "g")
    norm.CopyFrom(helper.make_node("GroupNormalization", ["b", "scale", "shift"], ["g"], num_groups=2))
    return file


@pytest.mark.parametrize("build", [positions_of_nonzeros, detections, group_norm])
def test_what_reaches_an_open_shape_stays(build, tmp_path):
    file = build()
    groups = groups_of_onnx(file)
    assert [group.name for group in groups.free] == ["a"] and groups["b"].frozen
    plan = plan_channels_onnx(file, 0.5, base="channels")
    thin = onnx.load(remove_channels_onnx(file, tmp_path / "thin.onnx", plan))
    (cut,) = (cut for cut in plan.cuts if cut.role == "producer")
    masked = zeroed(file, groups, {"a": cut.removed}, ("consumer",))
    assert plan.removed == 4 and distance(run(masked), run(thin)) < 1e-5


def test_thinning_takes_nothing_that_an_open_shape_needs():
    file = group_norm()
    weight = next(tensor for tensor in file.graph.initializer if tensor.name == "b.weight")
    array = numpy_helper.to_array(weight).copy()
    array[2], array[:, 1] = 0, 0  # a filter that the norm reads all the same, and a channel that nobody does
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    after = {group.name: group.after for group in thin_plan_onnx(file).groups}
    assert (after["a"], after["b"]) == (7, 6)


def test_layer_behind_an_open_shape_is_named():
    group = groups_of_onnx(group_norm())["c"]
    assert group.size == 5 and "whose shape cannot be inferred" in str(group.frozen)
