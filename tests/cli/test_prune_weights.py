"""`secateur prune-weights`: zeros without any image, in ONNX files and torch networks."""

import onnx
import pytest
import torch

import tiny_networks
from secateur import api
from secateur.graph import census_of_onnx
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.zoo import Preprocessing


def test_the_smallest_weights_go_and_filters_keep_their_variance(call, file, tmp_path):
    out, before = tmp_path / "sparse.onnx", file.read_bytes()
    code, text, err = call("prune-weights", file, "-o", out, "-s", "0.4", "--include-classifier")
    assert code == 0, err
    assert file.read_bytes() == before and str(out) in text
    counts = census_of_onnx(out)
    assert counts.sparsity == pytest.approx(0.4, abs=0.01)
    dense, sparse = (OnnxSubject(onnx.load(path), Preprocessing((3, 16, 16))) for path in (file, out))
    changed = [
        layer.name for layer in dense.layers if not torch.equal(dense.weight(layer.name), sparse.weight(layer.name))
    ]
    assert changed == ["body", "point", "classifier"]  # not the first, not the depthwise one
    for name in changed:
        kept, weight = sparse.weight(name) != 0, dense.weight(name)
        # What went is smaller than what stays.
        assert weight[~kept].abs().max() <= weight[kept].abs().min()
        wide = kept.flatten(1).sum(1) > 4
        ratio = sparse.weight(name).flatten(1).std(1) / weight.flatten(1).std(1)
        assert ratio[wide].median() == pytest.approx(1, abs=0.15)


def test_a_torch_network_gives_the_file_that_its_export_gives(file, tmp_path):
    torch.manual_seed(0)
    network = tiny_networks.network().eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    plan = api.prune_weights(network, tmp_path / "a.onnx", 0.5, "1x4-fine", correction=None)
    again = api.prune_weights(file, tmp_path / "b.onnx", 0.5, "1x4-fine", correction=None)
    assert plan.levels == again.levels
    a, b = (OnnxSubject(onnx.load(tmp_path / name), Preprocessing((3, 16, 16))) for name in ("a.onnx", "b.onnx"))
    assert all(torch.equal(a.weight(layer.name), b.weight(layer.name)) for layer in a.layers)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_every_allocation_works_on_a_file(file, tmp_path):
    for allocation in ("uniform", "erk", "lamp", "global_magnitude", "heuristic"):
        plan = api.prune_weights(file, tmp_path / "out.onnx", 0.3, allocation=allocation, base="selected")
        assert plan.allocation == allocation and census_of_onnx(tmp_path / "out.onnx").sparsity > 0.05


def test_a_pattern_with_one_level_needs_no_target(file, tmp_path):
    plan = api.prune_weights(file, tmp_path / "out.onnx", pattern="2:4")
    assert plan.levels and set(plan.levels.values()) == {0.5}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sparsity", "1.5"), "1.5"),
        (("--pattern", "1x5x"), "unknown pattern '1x5x'"),
        (("--allocation", "lmap"), "lamp"),
        (("--weights", "pretrained"), "comes with its weights"),
        (("--exclude", "nothing"), "nothing"),
        (("--pattern", "2:4", "--sparsity", "0.3"), "2:4"),
    ],
)
def test_mistakes_are_one_sentence(call, file, tmp_path, arguments, words):
    code, out, err = call("prune-weights", file, "-o", tmp_path / "out.onnx", *arguments)
    assert (code, out) == (2, "") and words in err and "Traceback" not in err
    assert not (tmp_path / "out.onnx").exists()


def test_an_open_size_is_asked_for(call, file, tmp_path):
    model = onnx.load(file)
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.Clear()
        side.dim_param = "side"
    onnx.save(model, tmp_path / "open.onnx")
    code, _, err = call("prune-weights", tmp_path / "open.onnx", "-o", tmp_path / "out.onnx")
    assert code == 2 and "input_size" in err
    code, _, err = call("prune-weights", tmp_path / "open.onnx", "-o", tmp_path / "out.onnx", "--input-size", "3x16x16")
    assert code == 0, err


def test_images_of_one_channel(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Flatten())
    network.preprocessing = Preprocessing((1, 8, 8), (0.5,), (0.5,))
    assert set(api.prune_weights(network, tmp_path / "out.onnx", base="selected", include_classifier=True).levels) == {
        "1"
    }
