"""What a training with rounding simulates is what the quantized file computes: value by value within one step."""

import copy
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rounded_networks import everything, images
from secateur.errors import QuantizationError
from secateur.quantization.numbers import rounded
from secateur.quantization.qdq import write_qdq
from secateur.quantization.training import finish_, prepare_
from secateur.quantization.training.weight_rules.affine import AffineWeights
from secateur.quantization.training.weights import attach_, before_rounding
from secateur.recipe.schema.quantization_training import LayerBits, QuantizationTraining
from secateur.sparsity import attach_masks_, masks, set_mask_

SIZE = (3, 12, 12)


def run(file, x, names):
    """Values of a file in ONNX Runtime without its optimisations."""
    opened = copy.deepcopy(file)
    known = {output.name for output in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"input": x.numpy()}), strict=True))


def trained(config, folder, known, masked=True):
    """The network after a step of training with rounding: its copy that still rounds, and what finish_ gave."""
    model = everything()
    if masked:
        attach_masks_(model, ["residual.conv1", "inverted.conv.3", "shuffle.branch.0"])
        for name, mask in masks(model).items():
            keep = torch.rand(mask.shape, generator=torch.Generator().manual_seed(len(name))) < 0.5
            set_mask_(model.get_submodule(name), keep)
    prepared = prepare_(model, config, SIZE, [images()], known)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model.train()
    model(images(seed=2)).square().sum().backward()
    optimizer.step()
    model.eval()
    simulated = copy.deepcopy(prepared)
    finished = finish_(prepared, folder / "float.onnx")
    file = onnx.load(finished.path)
    return SimpleNamespace(model=model, simulated=simulated, finished=finished, file=file)


@pytest.fixture(scope="module", params=["affine", "tensorflow", "lsq", "pact"])
def case(request, tmp_path_factory, places):
    bits = {"pact": 5, "lsq": 6}.get(request.param, 8)
    overrides = {"inverted.conv.0": LayerBits(weights=4)}
    config = QuantizationTraining(scheme=request.param, weight_bits=bits, activation_bits=bits, overrides=overrides)
    return trained(config, tmp_path_factory.mktemp(request.param), places)


def test_every_value_is_within_one_step_of_the_file(case):
    """Each value from the file's own values in front of it: what a step too many does later is another matter."""
    x = images(16, seed=7)
    written = write_qdq(case.file, case.finished.table)
    told = {node.output[0] for node in written.graph.node if node.op_type == "DequantizeLinear"}
    groups = {group.group.observed[0]: group for group in case.simulated.groups}
    names = [name for name in groups if f"{name}.dequantized" in told]
    assert len(names) >= 10
    values = run(written, x, ["logits", *(f"{name}.dequantized" for name in names)])
    for name in names:
        rule, found = groups[name].rule, torch.from_numpy(values[f"{name}.dequantized"])
        step = case.finished.table.values[name].step

        def compare(module, inputs, output, found=found, step=step, name=name):
            if output.numel() != found.numel():
                return None  # a second place of the group
            off = (output - found.reshape(output.shape)).abs() / float(step)
            assert off.max() <= 1.001 and (off > 0.5).float().mean() < 2e-3, name
            return found.reshape(output.shape)

        rule.register_forward_hook(compare)
    with torch.no_grad():
        output = case.simulated.model(x)
    assert np.allclose(output.numpy(), values["logits"], atol=1e-5)


def test_weights_of_the_file_are_integers_times_steps(case):
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in case.file.graph.initializer}
    table = case.finished.table
    assert set(table.weights) == set(case.simulated.weights) and not case.finished.floats
    for name, scale in table.weights.items():
        assert np.array_equal(stored[name], rounded(stored[name], scale))
        layer = case.simulated.map.weights[name].layer
        mask = masks(case.model).get(layer)
        if mask is not None:
            assert not stored[name][~mask.numpy()].any() and stored[name].any()
    bits = table.weights["inverted.conv.0.weight"].numbers.bits
    assert bits == (5 if case.simulated.config.scheme == "pact" else 4)


def test_the_network_is_plain_again_and_computes_what_its_file_does(case):
    x = images(4, seed=9)
    assert not hasattr(case.model, "rounded_activations")
    assert {name for name, _ in case.model.named_parameters() if "parametrizations" in name} == {
        f"{name}.parametrizations.weight.original" for name in masks(case.model)
    }
    wanted = run(case.file, x, ["logits"])["logits"]
    assert np.allclose(case.model(x).detach().numpy(), wanted, atol=1e-5)


def test_code_books_stay_float_and_say_why(tmp_path, places):
    config = QuantizationTraining(scheme="codebook", weight_bits=3, activation_bits=None, fold_norms=False)
    done = trained(config, tmp_path, places, masked=False)
    assert not done.finished.table.weights and not done.finished.table.values
    assert "no multiples of one step" in done.finished.table.floats["residual.conv1"]
    assert len(done.model.classifier.weight.unique()) <= 8


class Hidden(nn.Module):
    """Its code depends on values, so that torch.fx cannot look inside."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        if not torch.compiler.is_exporting() and float(x.sum()) == 12345.0:
            return x
        return self.conv(torch.sigmoid(x) * 3 - 1) + 1


def test_values_without_a_place_need_images(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Hidden(), nn.Flatten(), nn.Linear(64, 2)).eval()
    prepared = prepare_(model, QuantizationTraining(), (3, 4, 4), [torch.randn(4, 3, 4, 4)])
    assert prepared.unplaced and "1" in prepared.map.closed and "has no place" in str(prepared)
    with pytest.raises(QuantizationError, match="cannot trace Hidden"):
        finish_(prepared, tmp_path / "float.onnx")
    finished = finish_(prepared, tmp_path / "float.onnx", lambda: [np.random.randn(4, 3, 4, 4).astype(np.float32)])
    names = [name for group in prepared.unplaced for name in group.values]
    assert all(name in finished.table.values for name in names)
    write_qdq(onnx.load(finished.path), finished.table)


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_dead_filters_are_told(seed):
    torch.manual_seed(seed)
    conv, norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4).eval()
    norm.weight.data[:2] = torch.tensor([0.0, 1e-30])
    conv.weight.data[3] = 0
    config = QuantizationTraining(per_channel=True, weight_mode="sym")
    grid = attach_(conv, AffineWeights(8, config), norm, 0).grid(before_rounding(conv))
    assert torch.isfinite(grid.step).all() and (grid.step > 0).all()
