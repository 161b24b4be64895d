"""An ONNX file as a torch network: the same function, the same layers; what cannot be written back does not train."""

import importlib

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import onnx_networks
import tiny_networks
from secateur.errors import PosttrainingError
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.pipeline.posttraining.onnx_twin import Product, check_twin, twin_of
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.zoo import Preprocessing

SMALL = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3)
RANDOM = np.random.default_rng(0)


def tensor(name, *shape):
    return numpy_helper.from_array(0.3 * RANDOM.standard_normal(shape).astype(np.float32), name)


def numbers(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=attributes.pop("name", f"{op}_{output}"), **attributes)


def model_of(nodes, tensors, *, batch="n", dtype=TensorProto.FLOAT, opset=17):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", dtype, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def images(count=5, seed=0):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def twin(model):
    subject = OnnxSubject(model, SMALL)
    made = twin_of(subject)
    check_twin(made, subject, images())
    return subject, made


def trained(made):
    return {name for name, parameter in made.module.named_parameters() if parameter.requires_grad}


def mixed(batch="n"):
    """What files are made of: norms left in, a shared weight, both ways round, constants as operators, a slope."""
    nodes = [
        node("Conv", ["x", "stem.weight", "stem.bias"], "a", pads=[1, 0, 0, 1]),  # asymmetric
        node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], "b"),
        node("PRelu", ["b", "slope"], "c"),
        node("Conv", ["c", "twice.weight"], "d", pads=[1] * 4),
        node("Constant", [], "zero", value=numpy_helper.from_array(np.array(0.0, np.float32))),
        node("Constant", [], "four", value=numpy_helper.from_array(np.array(4.0, np.float32))),
        node("Clip", ["d", "zero", "four"], "e"),
        node("Conv", ["e", "twice.weight", "twice.bias"], "f", pads=[1] * 4),
        node("Conv", ["f", "depthwise.weight"], "g", pads=[1] * 4, group=6),
        node("Mul", ["g", "factor"], "h"),
        node("Conv", ["h", "grouped.weight"], "i", group=3),
        node("ConvTranspose", ["i", "up.weight"], "j", group=2),
        node("Identity", ["sides"], "target"),
        node("Reshape", ["j", "target"], "k"),
        node("MatMul", ["k", "product.weight"], "l"),
        node("Add", ["l", "product.bias"], "m"),
        node("Relu", ["m"], "n"),
        node("Transpose", ["other"], "other_way", perm=[1, 0]),
        node("Gemm", ["n", "other_way", "constant"], "o", alpha=0.5, beta=2.0),
        node("Gemm", ["o", "last.weight", "last.bias"], "y", transB=1),
    ]
    sides = 6 * 8 * 8
    first = -1 if batch == "n" else batch
    tensors = [
        tensor("stem.weight", 6, 3, 2, 2), tensor("stem.bias", 6),
        tensor("scale", 6), tensor("shift", 6), tensor("mean", 6),
        numpy_helper.from_array(np.full(6, 0.5, np.float32), "var"), tensor("slope", 6, 1, 1),
        tensor("twice.weight", 6, 6, 3, 3), tensor("twice.bias", 6),
        tensor("depthwise.weight", 6, 1, 3, 3), tensor("factor", 1, 6, 1, 1),
        tensor("grouped.weight", 6, 2, 1, 1), tensor("up.weight", 6, 3, 1, 1),
        numbers("sides", first, sides), tensor("product.weight", sides, 10), tensor("product.bias", 10),
        tensor("other", 7, 10), tensor("constant", 7), tensor("last.weight", 4, 7), tensor("last.bias", 4),
    ]  # fmt: skip
    return model_of(nodes, tensors, batch=batch)


LAYERS = {"stem", "twice", "depthwise", "grouped", "up", "product", "Gemm_o", "last"}


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_the_same_function_with_every_layer_at_any_batch(batch):
    subject, made = twin(mixed(batch))
    assert set(made.names) == {layer.name for layer in subject.layers} == LAYERS
    own = TorchSubject(made.module, SMALL)
    for name, found in made.names.items():
        assert torch.allclose(own.weight(found), subject.weight(name), atol=1e-7), name
    few, more = own.run(images(1)), own.run(images(6))
    assert few.shape == (1, 4) and more.shape == (6, 4)
    assert torch.allclose(subject.run(images(6)), more, atol=1e-5)


def test_only_what_can_be_written_back_trains():
    _, made = twin(mixed())
    weights = {f"{found}.weight" for found in made.names.values()}
    biases = {f"{made.names[name]}.bias" for name in ("stem", "product", "Gemm_o", "last")}
    assert trained(made) == weights | biases


def test_a_shared_weight_is_one_tensor():
    subject, made = twin(mixed())
    users = [
        m for m in made.module.modules() if getattr(m, "weight", None) is not None and m.weight.shape == (6, 6, 3, 3)
    ]
    assert len(users) == 2 and users[0].weight is users[1].weight
    assert users[1].bias is not None and not users[1].bias.requires_grad
    weight = 1.5 * subject.weight("twice")
    before = subject.run(images())
    TorchSubject(made.module, SMALL).store_(made.names["twice"], weight)
    subject.store_("twice", weight)
    check_twin(made, subject, images())
    assert not torch.allclose(before, subject.run(images()), atol=1e-3)


@pytest.mark.parametrize(("left", "transposed"), [(False, False), (False, True), (True, False), (True, True)])
def test_products_either_way_round(left, transposed):
    """(8, 5) weight; the value is (n, 3, 8, 8), or for Gemm (8, n)."""
    weight = tensor("w", *((5, 8) if left else (8, 5)))
    bias = tensor("b", *((5, 1) if left else (5,)))
    if not transposed:
        operands = ["w", "x"] if left else ["x", "w"]
        nodes = [node("MatMul", operands, "p"), node("Add", ["b", "p"], "q"), node("Flatten", ["q"], "y")]
        model = model_of(nodes, [weight, bias])
    else:
        nodes = [
            node("ReduceMean", ["x"], "means", axes=[1, 2], keepdims=0),  # (n, 8)
            node("Transpose", ["means"], "turned", perm=[1, 0]),
            node("Gemm", ["w", "turned", "b"] if left else ["turned", "w", "b"], "p", alpha=2.0, transA=int(not left)),
            node("Transpose", ["p"], "y", perm=[1, 0]) if left else node("Identity", ["p"], "y"),
        ]
        model = model_of(nodes, [weight, bias])
    subject, made = twin(model)
    (name,) = made.names
    found = made.module.get_submodule(made.names[name])
    assert isinstance(found, Product) and found.turned is left and found.bias is not None
    new, shift = subject.weight(name) * 1.25, subject.bias(name) + 1.0
    TorchSubject(made.module, SMALL).store_(made.names[name], new, shift)
    subject.store_(name, new, shift)
    check_twin(made, subject, images())


def test_a_sum_that_is_no_bias_stays():
    nodes = [
        node("Flatten", ["x"], "flat"),
        node("Gemm", ["flat", "w"], "p"),
        node("Add", ["p", "flat2"], "y"),
        node("Gemm", ["flat", "v", "p"], "unused"),
    ]
    nodes.insert(1, node("Gemm", ["flat", "u"], "flat2"))
    model = model_of(nodes, [tensor("w", 192, 4), tensor("u", 192, 4), tensor("v", 192, 4)])
    subject, made = twin(model)
    assert len(made.names) == 2 and len(subject.layers) == 3


def test_batch_norms_left_in_do_not_change():
    _, made = twin(mixed())
    norm = next(module for module in made.module.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert not norm.weight.requires_grad and not norm.bias.requires_grad and not norm.training


def test_the_network_of_other_tests_is_found_whole():
    model = onnx_networks.network()
    _, made = twin(model)
    assert set(made.names) == {"a", "d", "b", "fc"}


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("network", [tiny_networks.Tiny, tiny_networks.LeNet])
def test_files_of_torch_are_found_whole(tmp_path, network, dynamic):
    """Opset 18: means have their axes as an operand, and every Reshape says allowzero."""
    torch.manual_seed(0)
    dense = network().eval()
    file = export_onnx(dense, tmp_path / "file.onnx", (3, 16, 16), dynamic_batch=dynamic)
    subject = OnnxSubject(read_model(file), dense.preprocessing)
    assert {entry.version for entry in subject.model.opset_import} == {18}
    made = twin_of(subject)
    check_twin(made, subject, torch.randn(3, 3, 16, 16))
    assert set(made.names) == {layer.name for layer in subject.layers}


def test_no_side_that_is_zero_is_taken_for_another(tmp_path):
    """With allowzero and a 0 a value is empty: that is nothing to tune."""
    nodes = [
        node("Reshape", ["x", "sides"], "r", allowzero=1),
        node("ReduceSum", ["r"], "s", keepdims=0),
        node("Flatten", ["x"], "f"),
        node("Gemm", ["f", "w"], "g"),
        node("Add", ["g", "s"], "y"),
    ]
    model = model_of(nodes, [numbers("sides", 0, 5), tensor("w", 192, 4)])
    with pytest.raises(PosttrainingError, match="allowzero"):
        twin_of(OnnxSubject(model, SMALL))


def unknown():
    """An operator that onnx2torch has not."""
    nodes = [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w"], "g"), node("Shrink", ["g"], "y", lambd=0.1)]
    return model_of(nodes, [tensor("w", 192, 4)])


def test_what_cannot_be_made_is_one_sentence(monkeypatch):
    with pytest.raises(PosttrainingError, match=r"onnx2torch cannot make a torch network of it: .*Shrink.*\.$"):
        twin_of(OnnxSubject(unknown(), SMALL))
    half = model_of(
        [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w"], "y")],
        [numpy_helper.from_array(RANDOM.standard_normal((192, 4)).astype(np.float16), "w")],
        dtype=TensorProto.FLOAT16,
    )
    with pytest.raises(PosttrainingError, match="float32"):
        twin_of(OnnxSubject(half, SMALL))
    fixed = model_of(  # a batch that no Reshape has: it cannot be made free
        [
            node("Concat", ["first", "x"], "both", axis=1),
            node("Flatten", ["both"], "f"),
            node("Gemm", ["f", "w"], "y"),
        ],
        [tensor("first", 1, 1, 8, 8), tensor("w", 256, 4)],
        batch=1,
    )
    subject = OnnxSubject(fixed, SMALL)
    with pytest.raises(PosttrainingError, match="cannot run 5 images"):
        check_twin(twin_of(subject), subject, images())
    real = importlib.import_module

    def without(name, *more):
        if name == "onnx2torch":
            raise ModuleNotFoundError("No module named 'onnx2torch'")
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(PosttrainingError, match=r"install secateur\[torch\]"):
        twin_of(OnnxSubject(mixed(), SMALL))


def test_a_twin_that_answers_otherwise_is_refused():
    subject, made = twin(mixed())
    with torch.no_grad():
        made.module.get_submodule(made.names["last"]).bias += 0.5
    with pytest.raises(PosttrainingError, match="differ from ONNX Runtime's"):
        check_twin(made, subject, images())


def test_the_file_is_left_alone():
    subject = OnnxSubject(mixed(1), SMALL)
    before = subject.digest()
    twin_of(subject)
    assert subject.digest() == before
