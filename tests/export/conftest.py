"""Small networks with the topologies that exporters get wrong."""

from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.export import export_onnx
from secateur.sparsity import sparsify_

SIZE = (3, 8, 8)


class Residual(nn.Module):
    """Convolution, batch norm and a residual with downsampling: a ResNet in three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(8, 16, 1, stride=2, bias=False)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)) + self.down(x))
        return self.fc(x.mean((2, 3)))


class Dense(nn.Module):
    """Batch norm before the convolution, and concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 4, 3, padding=1, bias=False)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.pool(torch.cat([x, self.conv(self.norm(x).relu())], 1))
        return self.head(x.flatten(2).mean(2))


class Shuffle(nn.Module):
    """Split, depthwise and channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.stem(x).chunk(2, dim=1)
        x = torch.cat([left, self.norm(self.depthwise(right))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(nn.functional.hardswish(x).mean((2, 3)))


NETWORKS = {"residual": Residual, "concat": Dense, "shuffle": Shuffle}


def trained(network: nn.Module) -> nn.Module:
    """Batch norm statistics as after training: scales of both signs, so that folding has something to do."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


class Preprocessing:
    """As much of a preprocessing as the exporter looks at."""

    def to_dict(self) -> dict[str, object]:
        return {"mean": [0.5]}


@pytest.fixture(params=sorted(NETWORKS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return trained(NETWORKS[request.param]())


@pytest.fixture(scope="session")
def sparse_residual() -> nn.Module:
    """A residual network in training mode whose second convolution is 75 % zero, masks still attached."""
    torch.manual_seed(0)
    network = trained(Residual())
    sparsify_(network, sparsity=0.75, pattern="1x4", base="selected", exclude=("down",))
    network.preprocessing, network.zoo_name = Preprocessing(), "tiny"
    return network.train()


@pytest.fixture(scope="session")
def exported(sparse_residual: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `sparse_residual`; exporting takes seconds, so tests share it and copy it to damage it."""
    return export_onnx(sparse_residual, tmp_path_factory.mktemp("exported") / "model.onnx", SIZE)
