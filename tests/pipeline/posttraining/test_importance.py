"""The importance of outputs as the stage takes it: of files as of networks, kept, left out where it says nothing."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from secateur.errors import PosttrainingError
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.pipeline.posttraining import importance
from secateur.pipeline.posttraining.importance import ALIKE, importance_of
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.recipe import PosttrainingStage
from secateur.zoo import Preprocessing

SMALL = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3)
STAGE = PosttrainingStage()


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def product(left: bool) -> OnnxSubject:
    """A weight (8, 5) times (n, 3, 8, 8), or (5, 8) from the left."""
    weight = np.random.default_rng(0).standard_normal((5, 8) if left else (8, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["w", "x"] if left else ["x", "w"], ["p"], name="product"),
            helper.make_node("Flatten", ["p"], ["y"], name="flat"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return OnnxSubject(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), SMALL)


def network() -> nn.Module:
    torch.manual_seed(0)
    found = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(54, 5),
    )
    found.preprocessing = SMALL
    return found.eval()


def names(subject) -> list[str]:
    return [layer.name for layer in subject.layers]


def test_of_a_file_as_of_the_network_that_it_holds(tmp_path):
    own = TorchSubject(network(), SMALL)
    export_onnx(own.model, tmp_path / "model.onnx", SMALL.input_size)
    file = OnnxSubject(read_model(tmp_path / "model.onnx"), SMALL)
    batches = lambda: [images(12)]  # noqa: E731
    one = importance_of(own, names(own), batches, STAGE, tmp_path / "torch")
    other = importance_of(file, names(file), batches, STAGE, tmp_path / "onnx")
    assert len(one) == len(other) == 3
    for name, found in zip(names(own), names(file), strict=True):
        assert torch.allclose(one[name], other[found], rtol=1e-3), name


@pytest.mark.parametrize("left", [False, True])
def test_products_either_way_round(tmp_path, left):
    """Outputs are the last axis, or the last but one."""
    file = product(left)
    ((_, found),) = importance_of(file, names(file), lambda: [images(6)], STAGE, tmp_path).items()
    assert found.shape == (5,)
    # Every output is a logit of its own, and the answers are nearly alike: none matters much more.
    assert float(found.min()) > 0.5


def test_it_is_kept(tmp_path, monkeypatch):
    own = TorchSubject(network(), SMALL)
    first = importance_of(own, names(own), lambda: [images(6)], STAGE, tmp_path)
    monkeypatch.setattr(importance, "output_importance", None)
    again = importance_of(own, names(own), lambda: [images(6)], STAGE, tmp_path)
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
    with pytest.raises(TypeError):
        importance_of(own, names(own), lambda: [images(7)], STAGE, tmp_path)


@pytest.mark.parametrize("keys", [{"weigh_outputs": False}, {"patterns": ("2:4",)}])
def test_where_filters_do_not_compete_nothing_is_computed(tmp_path, monkeypatch, keys):
    monkeypatch.setattr(importance, "output_importance", None)
    own = TorchSubject(network(), SMALL)
    stage = PosttrainingStage.model_validate(keys)
    assert importance_of(own, names(own), lambda: [images(6)], stage, tmp_path) is ALIKE


def test_a_file_without_a_twin_says_so(tmp_path, monkeypatch, capsys):
    def none(*_given: object) -> None:
        raise PosttrainingError("operator Mystery is not known.")

    monkeypatch.setattr(importance, "checked_twin", none)
    file = product(left=False)
    assert importance_of(file, names(file), lambda: [images(6)], STAGE, tmp_path) is ALIKE
    assert "count alike" in capsys.readouterr().err


def test_so_does_a_network_through_which_no_gradient_comes(tmp_path, capsys):
    class Overwrites(nn.Module):
        """What the gradient would need is overwritten."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(192, 4)

        def forward(self, x):
            return torch.sigmoid(self.layer(x.flatten(1))).add_(1.0)

    own = TorchSubject(Overwrites(), SMALL)
    assert importance_of(own, names(own), lambda: [images(6)], STAGE, tmp_path) is ALIKE
    assert "count alike" in capsys.readouterr().err
