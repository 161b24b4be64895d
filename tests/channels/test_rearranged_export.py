"""Rearranged blocks in the exported file: contiguous, and found by the engine."""

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import secateur
from secateur.channels.rearrange import permute_for_nm_, rearrange_for_blocks_
from secateur.export import export_onnx
from secateur.sparsity import sparsify_

SIZE = (3, 8, 8)


class Network(nn.Module):
    """A residual sum and a chain, wide enough that blocks are no accident."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = (
            nn.Conv2d(3, 32, 3, padding=1),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.Conv2d(32, 32, 1),
        )
        self.norm = nn.BatchNorm2d(32)
        self.c, self.head = nn.Conv2d(32, 16, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.norm(x + self.b(torch.relu(self.a(x)))))
        return self.head(self.c(x).mean((2, 3)))


def weights_of(path):
    return {value.name: numpy_helper.to_array(value) for value in onnx.load(path).graph.initializer}


@pytest.fixture(scope="module")
def rearranged(tmp_path_factory):
    torch.manual_seed(0)
    network = Network().eval()
    nn.init.uniform_(network.norm.running_var, 0.5, 2)
    order = rearrange_for_blocks_(network, "1x4", 0.5, SIZE)
    assert {name for group in order.reordered for name in group.layers} == {"a", "b", "c"}
    plan = sparsify_(network, 0.5, "1x4", base="selected")
    assert set(plan.levels) == {"a", "b", "c"}
    path = export_onnx(network, tmp_path_factory.mktemp("rearranged") / "model.onnx", SIZE, dynamic_batch=False)
    return network, path


def test_blocks_of_four_filters_share_their_zeros_in_the_file(rearranged):
    _, path = rearranged
    for name in ("a", "b", "c"):
        weight = weights_of(path)[f"{name}.weight"]
        kept = (weight != 0).reshape(len(weight) // 4, 4, weight.shape[1], -1)
        assert 0.45 < kept.mean() < 0.55
        assert (kept == kept[:, :1, :, :1]).all()


def test_the_engine_finds_the_blocks_and_computes_the_same(rearranged):
    network, path = rearranged
    image = torch.randn(1, *SIZE)
    with secateur.compile(path, threads=1) as session:
        patterns = {layer["layer"]: layer["pattern"] for layer in session.report().to_dict()["layers"]}
        result = session.run(image.numpy())["logits"]
    assert all(patterns[name].startswith("1x4 50.0 %") for name in ("a", "b", "c")), patterns
    with torch.no_grad():
        assert torch.allclose(torch.as_tensor(result), network(image), atol=1e-4)


def test_permuted_two_of_four_stays_two_of_four_in_the_file(tmp_path):
    torch.manual_seed(0)
    network = Network().eval()
    assert permute_for_nm_(network, "2:4", SIZE, escapes=0).reordered
    plan = sparsify_(network, pattern="2:4", sparsity=0.5, base="selected")
    path = export_onnx(network, tmp_path / "model.onnx", SIZE)
    for name in plan.levels:
        weight = weights_of(path)[f"{name}.weight"]
        groups = (weight != 0).swapaxes(1, -1).reshape(-1, 4)
        assert groups.sum(axis=1).max() == 2
