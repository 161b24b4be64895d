"""Networks of a few hundred weights, one for each way in which values branch and join."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Straight(nn.Module):
    """Five convolutions in a row, with norms, activations that work in place, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(part for i in range(5) for part in (nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1), nn.BatchNorm2d(4),
                                                  nn.Hardswish(inplace=True)))
        )  # fmt: skip
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x).mean(dim=(2, 3)))


class Residual(nn.Module):
    """A block with the identity and one with a downsample, in the pre-activation form that overwrites its input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.down, self.wide = nn.Conv2d(4, 6, 1, stride=2), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.two(F.relu(self.norm(self.one(F.silu(x, inplace=True))), True))
        y += x
        x = torch.relu_(y)
        x = torch.tanh(self.down(x) + self.wide(x))
        return self.classifier(x.flatten(2).mean(-1))


class Gated(nn.Module):
    """Squeeze-and-excitation: a fork that joins in a product."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fold = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.unfold, self.classifier = nn.Conv2d(2, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        gate = torch.sigmoid(self.unfold(torch.relu(self.fold(x.mean((2, 3), keepdim=True)))))
        return self.classifier((x * gate).mean((2, 3)))


class Twice(nn.Module):
    """One layer that runs twice, with another between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.between, self.classifier = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.again(torch.relu(self.stem(x))))
        return self.classifier(torch.relu(self.again(torch.relu(self.between(x)))).mean((2, 3)))


class Deciding(nn.Module):
    """Code that depends on values: torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x))) if x.sum() > -1e9 else x


class Inside(nn.Module):
    """A part that cannot be traced inside a network that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.classifier = nn.Conv2d(3, 4, 3, padding=1), Deciding(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.part(torch.relu(self.stem(x))).mean((2, 3)))


class Untraceable(Inside):
    """Nothing can be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > -1e9 else -x)


NETWORKS = (Straight, Residual, Gated, Twice, Inside, Untraceable)


def built(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """The network with random weights and norms that do something, in evaluation mode."""
    torch.manual_seed(seed)
    network = kind()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return network.eval()


def images(count: int = 2, batch: int = 4, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, 8, 8, generator=generator) for _ in range(count)]


BATCHES = images(4, 8)


@torch.no_grad()
def gap(network: nn.Module, dense: nn.Module) -> float:
    """How far two networks are apart on BATCHES."""
    return sum(float((network(x) - dense(x)).square().mean()) for x in BATCHES)
