"""Dependency groups of ONNX files: who goes together, who stays and why."""

import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper

from channels import onnx_topologies as topologies
from channels.onnx_topologies import PADDED, TOPOLOGIES, conv, fc, model
from secateur.channels.onnx_trace import groups_of_onnx
from secateur.errors import ModelError

HEAD = topologies.HEAD


def sizes(file):
    return {group.name: group.size for group in groups_of_onnx(file).free}


def test_residual_sums_share_their_channels():
    groups = groups_of_onnx(topologies.residual())
    assert groups["s"].producers == ("s", "b") and groups["s"].consumers == ("a", "fc")
    assert sizes(topologies.residual()) == {"s": 8, "a": 6}


def test_padded_shortcut_ties_what_it_adds_and_frees_the_rest():
    # 6 channels of the stem meet the middle 6 of the sum; the other 6 meet zeros that can be padded less.
    assert sizes(topologies.residual_padded()) == {"s": 6, "a": 6}


def test_shuffle_frees_every_channel():
    assert sum(sizes(topologies.shuffle()).values()) == 16


def test_shuffle_of_computed_numbers():
    assert sum(sizes(topologies.computed_numbers()).values()) == 12


def test_what_meets_a_single_channel_stays_free():
    assert sizes(topologies.gates()) == {"a": 8, "b": 5}  # of b, the channel that the others are multiplied with stays
    groups = groups_of_onnx(topologies.gates())
    assert groups["q"].frozen == groups["b:2"].frozen == "one channel that meets all channels of another value"


def test_image_with_channels_last_leaves_the_stem_free():
    groups = groups_of_onnx(topologies.channels_last())
    assert sizes(topologies.channels_last()) == {"a": 6, "b": 5}
    into = next(group for group in groups.groups if "a" in group.consumers)
    assert (into.size, into.frozen) == (3, "input of the network")
    assert {(member.tensor, member.role) for member in into.members} >= {
        ("means", "parameter"),
        ("fc.weight", "consumer"),
    }


def test_layer_that_reads_channels_along_its_pixels_is_still_named():
    # Without a convolution that could tell, axis 1 counts as that of the channels; here it becomes rows of pixels.
    nodes = f"""
        e = Exp(x) v = Split<axis = 1>(e, parts) w = Concat<axis = 3>(v, v) t = Transpose<perm = [0, 3, 1, 2]>(w)
        a = Conv{PADDED}(t, a.weight, a.bias) r = Relu(a) b = Conv{PADDED}(r, b.weight, b.bias) h = Add(a, b) {HEAD}
    """
    weights = {"parts": np.array([8]), **conv("a", 5, 6), **conv("b", 5, 5), **fc(5)}
    assert sizes(model(nodes, weights, x="N,8,8,3")) == {"a": 5}


def test_layer_that_no_rule_follows_is_named():
    nodes = f"a = Conv(x, a.weight, a.bias) h = ConvTranspose<group = 2>(a, t.weight) {HEAD}"
    groups = groups_of_onnx(model(nodes, {**conv("a", 6, 3, 1), "t.weight": (6, 4, 1, 1), **fc(8)}))
    assert groups["a"].frozen == groups["t"].frozen == "ConvTranspose 'ConvTranspose_1' with groups"


def test_flatten_maps_a_channel_to_its_pixels():
    member = next(m for m in groups_of_onnx(topologies.flatten())["a"].members if m.tensor == "g.weight")
    assert (member.axis, member.positions.shape) == (0, (6, 16))
    assert member.positions[1].tolist() == list(range(16, 32))


def test_depthwise_filters_belong_to_their_channel():
    group = groups_of_onnx(topologies.depthwise())["a"]
    assert {(m.tensor, m.role) for m in group.members} >= {("b.weight", "depthwise"), ("c.weight", "consumer")}
    twice = next(m for m in groups_of_onnx(topologies.depthwise())["c"].members if m.tensor == "d.weight")
    assert twice.positions.tolist()[:2] == [[0, 1], [2, 3]]


def test_shared_weights_are_one_tensor():
    groups = groups_of_onnx(topologies.shared_weights())
    assert groups.tensors["t.weight"].positions == 2 * 64
    assert [group.size for group in groups.free] == [6, 5]


def test_grouped_convolutions_are_balanced():
    groups = groups_of_onnx(topologies.grouped())
    assert (groups["a"].segments, groups["b"].segments) == (4, 4)


@pytest.mark.parametrize(
    ("reason", "nodes", "weights"),
    [
        ("output of the network", "y = Conv(x, a.weight, a.bias)", conv("a", 4, 3, 1)),
        ("Softmax '.*' over channels", f"a = Conv(x, a.weight, a.bias) h = Softmax<axis = 1>(a) {HEAD}", {}),
        ("operator LRN", f"a = Conv(x, a.weight, a.bias) h = LRN<size = 3>(a) {HEAD}", {}),
        ("ReduceMean '.*' over channels", "a = Conv(x, a.weight, a.bias) y = ReduceMean<axes = [1]>(a)", {}),
        ("of two activations", "a = Conv(x, a.weight, a.bias) y = MatMul(a, a)", {}),
        ("operator TopK", f"a = Conv(x, a.weight, a.bias) h, i = TopK<axis = 1>(a, k) {HEAD}", {"k": np.array([4])}),
        ("whose weight is computed", f"w = Tanh(b.weight) a = Conv(x, a.weight, a.bias) h = Conv(a, w) {HEAD}",
         {"b.weight": (4, 4, 1, 1)}),
        ("a constant that is computed", f"w = Tanh(s) a = Conv(x, a.weight, a.bias) h = Mul(a, w) {HEAD}",
         {"s": (4, 1, 1)}),
    ],
)  # fmt: skip
def test_what_stays_says_why(reason, nodes, weights):
    shapes = {"y = Conv": "N,4,8,8", "y = ReduceMean": "N,1,8,8", "y = MatMul": "N,4,8,8"}
    y = next((shape for start, shape in shapes.items() if start in nodes), "N,4")
    head = fc(4) if "fc.weight" in nodes else {}
    group = groups_of_onnx(model(nodes, {**conv("a", 4, 3, 1), **head, **weights}, y=y))["a"]
    assert re.search(reason, str(group.frozen)), group.frozen


def test_quantized_weights_stay():
    nodes = f"""
        w = DequantizeLinear<axis = 0>(q, scale, zero) a = Conv{PADDED}(x, w, a.bias)
        b = Conv{PADDED}(a, b.weight, b.bias) h = Relu(b) {HEAD}
    """
    weights = {"q": np.ones((8, 3, 3, 3), np.int8), "scale": np.ones(8, np.float32), "zero": np.zeros(8, np.int8),
               "a.bias": (8,), **conv("b", 6, 8), **fc(6)}  # fmt: skip
    groups = groups_of_onnx(model(nodes, weights))
    assert [(group.name, group.size) for group in groups.free] == [("b", 6)]


def test_mixer_keeps_channels_apart_while_it_mixes_pixels():
    nodes = f"""
        a = Conv(x, a.weight, a.bias) r = Reshape(a, tokens) m = MatMul(r, m.weight) n = Add(m, m.bias)
        h = Reshape(n, image) {HEAD}
    """
    weights = {**conv("a", 6, 3, 1), "tokens": np.array([0, 6, 64]), "image": np.array([0, 6, 8, 8]),
               "m.weight": (64, 64), "m.bias": (64,), **fc(6)}  # fmt: skip
    assert sizes(model(nodes, weights)) == {"a": 6}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_groups_print(name):
    text = str(groups_of_onnx(TOPOLOGIES[name]()))
    assert "input of the network" in text and "output of the network" in text


# ---------------------------------------------------------------------------------------------------- hostile files


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match="there is no such file"):
        groups_of_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_file_that_is_cut_off(share, tmp_path):
    data = topologies.chain().SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        groups_of_onnx(tmp_path / "cut.onnx")


def test_cycle():
    file = topologies.residual()
    file.graph.node[0].input[0] = file.graph.node[2].output[0]
    with pytest.raises(ModelError, match="which nothing before it produces"):
        groups_of_onnx(file)


def test_open_sides_are_asked_for():
    file = topologies.chain()
    for side in file.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.Clear()
        side.dim_param = "side"
    with pytest.raises(ModelError, match="open"):
        groups_of_onnx(file)
    assert groups_of_onnx(file, (3, 8, 8)).macs == groups_of_onnx(topologies.chain()).macs


def test_unknown_domain_freezes():
    file = topologies.residual()
    node = next(node for node in file.graph.node if node.op_type == "Add")
    node.domain, node.op_type = "com.strange", "Sum2"
    file.opset_import.append(helper.make_opsetid("com.strange", 1))
    shape = [1, 8, 8, 8]
    file.graph.value_info.append(helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, shape))
    assert "operator Sum2" in str(groups_of_onnx(file)["b"].frozen)


def test_what_would_take_all_memory_stays():
    nodes = "a = Conv(x, a.weight, a.bias) r = Reshape(a, long) y = Tanh(r)"
    weights = {**conv("a", 8, 3, 1), "long": np.array([1, -1])}
    file = model(nodes, weights, x="1,3,4096,4096", y="1,134217728")
    assert "of too many numbers" in str(groups_of_onnx(file)["a"].frozen)


def test_no_torch_is_needed():
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import secateur.channels.onnx_thin, secateur.channels.onnx_remove; print('done')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr
