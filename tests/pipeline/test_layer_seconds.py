"""Times of layers at levels: every layer, every level, with the zeros planted where the pattern puts them."""

import onnx
import pytest
import torch
from onnx import numpy_helper

from secateur.engine.session import compile_onnx
from secateur.errors import SparsityError
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.pipeline.layer_seconds import _planted, kept_seconds, measure_file_seconds, measure_layer_seconds
from secateur.posttraining import CostFacts, StitchSettings, Target, apply_, build_database, solve
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import LayerSeconds, hardware_cap, layers_of, make_mask, parse_pattern, plan_sparsity
from tiny_networks import network


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return network().eval()


def test_every_layer_has_a_time_at_every_level(tiny, tmp_path):
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    found = measure_layer_seconds(tiny, "unstructured", (0.5, 0.9), rounds=2, sweeps=1)
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    assert set(found.layers) == {layer.name for layer in layers_of(tiny)}
    assert all(tuple(times) == (0.0, 0.5, 0.9) and min(times.values()) > 0 for times in found.layers.values())
    assert "1 thread, batch 1" in found.where and found.pattern == "unstructured"
    assert 0 < found.rest < 1, "pooling and layout changes take time, and no layer has it"
    found.write(tmp_path / "seconds.json")
    read = LayerSeconds.read(tmp_path / "seconds.json")
    assert read == found
    caps = hardware_cap(read)
    assert set(caps.caps) | set(caps.dense) == set(found.layers)
    plan = plan_sparsity(tiny, 0.0, "unstructured", hardware=read)
    assert all(plan.levels.get(name, 0.0) == 0.0 for name in caps.dense)


@pytest.mark.parametrize(("pattern", "level"), [("unstructured", 0.9), ("1x4", 0.5), ("2:4", 0.5)])
def test_zeros_are_planted_in_the_pattern_at_the_level(tiny, tmp_path, pattern, level):
    rule = parse_pattern(pattern)
    fits = [layer for layer in layers_of(tiny) if rule.applies(layer.shape, layer.groups, layer.kind) is None]
    dense = read_model(export_onnx(tiny, tmp_path / "m.onnx", (3, 16, 16)))
    planted = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in _planted(dense, fits, rule, level).graph.initializer
    }
    assert len(fits) >= 2
    for layer in fits:
        share = float((planted[f"{layer.name}.weight"] == 0).mean())
        assert share == pytest.approx(rule.zeros(layer.shape, level, groups=layer.groups) / layer.weights, abs=0.03)


def test_a_level_that_is_none_is_a_sentence(tiny):
    with pytest.raises(SparsityError, match="levels are fractions"):
        measure_layer_seconds(tiny, levels=(1.0,))


def test_a_network_for_measured_seconds_stands_beside_its_measurement(tmp_path):
    """Prediction against measurement; a busy machine measures up to a few times as long as an idle one."""
    torch.manual_seed(0)
    model = network().eval()
    table = measure_layer_seconds(model, "unstructured", (0.5, 0.9), rounds=3, sweeps=2)
    subject = TorchSubject(model)
    images = [torch.randn((8, 3, 16, 16), generator=torch.Generator().manual_seed(0))]
    grams = gather_grams(subject, lambda: images, [layer.name for layer in subject.layers])
    database = build_database(subject, grams, [parse_pattern("unstructured")], tmp_path / "db", [0.5, 0.9])
    settings = StitchSettings(facts=CostFacts(seconds=[table]))
    dense = solve(database, Target("seconds", 1.0, relative=True), settings=settings)
    assert dense.dense == pytest.approx(table.rest + sum(times[0.0] for times in table.layers.values()))
    cheapest = table.rest + sum(min(times.values()) for times in table.layers.values())
    found = solve(database, Target("seconds", (cheapest + dense.dense) / 2), settings=settings)
    assert cheapest <= found.cost <= (cheapest + dense.dense) / 2 or found.cost == dense.cost
    apply_(subject, database, found)
    with compile_onnx(read_model(export_onnx(model, tmp_path / "m.onnx", (3, 16, 16))), threads=1, batch=1) as session:
        measured = min(session.profile(rounds=5, against_dense=False).total for _ in range(3))
    text = str(found.against(measured))
    print(text)
    assert f"measured {1e3 * measured:.4g} ms" in text and "against predicted" in text
    assert measured / 10 < found.cost < measured * 10


@pytest.fixture(scope="module")
def odd_file(tiny, tmp_path_factory):
    """Tensors that are not called after layers, operators without names, and one weight in two operators."""
    model = read_model(export_onnx(tiny, tmp_path_factory.mktemp("odd") / "m.onnx", (3, 16, 16)))
    names = {tensor.name: f"t{index}" for index, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.name = ""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    again = onnx.NodeProto()
    again.CopyFrom(first)
    again.output[:] = ["again"]
    total = onnx.helper.make_node("Add", [first.output[0], "again"], ["total"])
    place = list(model.graph.node).index(first)
    for node in model.graph.node:
        node.input[:] = ["total" if name == first.output[0] else name for name in node.input]
    model.graph.node.insert(place + 1, total)
    model.graph.node.insert(place + 1, again)
    return model


def test_a_file_of_any_names_has_the_layers_of_its_census(tiny, odd_file):
    before = odd_file.SerializeToString()
    found = measure_file_seconds(odd_file, tiny.preprocessing, "unstructured", (0.9,), rounds=2, sweeps=1)
    assert odd_file.SerializeToString() == before
    subject = OnnxSubject(odd_file, tiny.preprocessing)
    assert set(found.layers) == {layer.name for layer in subject.layers} and len(found.layers) == 5
    assert all(tuple(times) == (0.0, 0.9) and min(times.values()) > 0 for times in found.layers.values())


def test_times_of_a_file_add_up_to_what_it_takes(tiny, tmp_path):
    """Loosely: a busy machine measures up to a few times as long as an idle one."""
    model = read_model(export_onnx(tiny, tmp_path / "m.onnx", (3, 16, 16)))
    table = measure_file_seconds(model, tiny.preprocessing, "unstructured", (0.9,), rounds=3, sweeps=2)
    subject = OnnxSubject(model, tiny.preprocessing)
    for layer in subject.layers:
        weight = subject.weight(layer.name)
        mask = make_mask(weight.abs(), parse_pattern("unstructured"), 0.9, groups=layer.groups)
        subject.store_(layer.name, weight * mask)
    predicted = table.rest + sum(times[0.9] for times in table.layers.values())
    with compile_onnx(subject.model, threads=1, batch=1) as session:
        measured = min(session.profile(rounds=5, against_dense=False).total for _ in range(3))
    assert measured / 10 < predicted < measured * 10


def test_what_was_measured_is_kept(tmp_path):
    table, asked = LayerSeconds("here", "2:4/tensor_core", {"a": {0.0: 1.0, 0.5: 0.5}}), []

    def measure():
        asked.append(1)
        return table

    assert kept_seconds(tmp_path, table.pattern, measure) == kept_seconds(tmp_path, table.pattern, measure) == table
    assert asked == [1]
