"""Networks put together at random: masked equals thinned, any order computes the same, thinning keeps the function."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from channels.topologies import head, images, outputs, randomized
from secateur.channels import (
    channel_groups,
    mask_channels_,
    permute_group_,
    plan_channels,
    remove_channels_,
    thin_plan,
)

SIZE = (3, 8, 8)
WIDTHS = (4, 6, 8, 12)


class Step(nn.Module):
    """One operator on one or two earlier values, with what it needs to know."""

    def __init__(self, kind: str, reads: tuple[int, ...], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.kind, self.reads, self.layer = kind, reads, layer

    def forward(self, values: list[Tensor]) -> Tensor:
        x, *rest = (values[at] for at in self.reads)
        return getattr(self, self.kind)(x, *rest)

    def layered(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return F.relu(x + y)

    def gate(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.layer(x.mean((2, 3), keepdim=True)))

    def cat(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], dim=1)

    def flip(self, x: Tensor) -> Tensor:
        return x + x.flip(1)

    def shuffle(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)

    def halves(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b, a * 2], dim=1)

    def half(self, x: Tensor) -> Tensor:
        return x[:, : x.shape[1] // 2]

    def pad(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 1, 1))

    def fold(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pixel_shuffle(x, 2), 2)

    def softmax(self, x: Tensor) -> Tensor:
        return x * x.flatten(2).softmax(-1).view_as(x)

    def centred(self, x: Tensor) -> Tensor:
        return x - x.amax((2, 3), keepdim=True)

    def twice(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.silu(x)], dim=1)


class RandomNetwork(nn.Module):
    def __init__(self, seed: int, steps: int = 12) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.generator = np.random.default_rng(seed)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.steps = nn.ModuleList()
        widths = [8]
        while len(self.steps) < steps:
            made = self._step(widths)
            if made is not None and made[1] <= 24:
                self.steps.append(made[0])
                widths.append(made[1])
        self.head = head(widths[-1])
        del self.generator

    def _step(self, widths: list[int]) -> tuple[Step, int] | None:
        pick = self.generator
        # Mostly the last values, so that the network is deep.
        at = max(0, len(widths) - 1 - int(pick.integers(0, 3)))
        c, out = widths[at], int(pick.choice(WIDTHS))
        simple = {"flip": c, "pad": c + 2, "softmax": c, "centred": c, "twice": 2 * c}
        if c % 2 == 0 and c > 2:
            simple |= {"shuffle": c, "halves": c, "half": c // 2}
        if c % 4 == 0:
            simple["fold"] = c // 4
        kind = str(
            pick.choice(
                ["conv", "conv", "normed", "grouped", "depthwise", "add", "add", "cat", "gate", "prelu", *simple]
            )
        )
        if kind in ("add", "cat"):
            others = [i for i, width in enumerate(widths) if kind == "cat" or width == c]
            other = int(pick.choice(others))
            return Step(kind, (at, other)), c if kind == "add" else c + widths[other]
        if kind == "gate":
            return Step("gate", (at,), nn.Sequential(nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1))), c
        if kind in simple:
            return Step(kind, (at,)), simple[kind]
        layer: Any
        if kind == "conv":
            layer = nn.Conv2d(c, out, 1)
        elif kind == "normed":
            layer = nn.Sequential(nn.Conv2d(c, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU6())
        elif kind == "grouped":
            groups = int(pick.choice([g for g in (2, 3, 4) if c % g == 0 and out % g == 0 and c > g] or [1]))
            layer = nn.Conv2d(c, out, 3, padding=1, groups=groups)
        elif kind == "depthwise":
            out = c * int(pick.integers(1, 3))
            layer = nn.Sequential(nn.Conv2d(c, out, 3, padding=1, groups=c), nn.BatchNorm2d(out))
        else:
            out, layer = c, nn.PReLU(c)
        return Step("layered", (at,), layer), out

    def forward(self, x: Tensor) -> Tensor:
        values = [self.stem(x)]
        for step in self.steps:
            values.append(step(values))
        return self.head(values[-1])


def build(seed: int) -> nn.Module:
    return randomized(RandomNetwork(seed)).double()


def same(a: nn.Module, b: nn.Module) -> None:
    x = images(SIZE)
    torch.testing.assert_close(outputs(a, x)[0], outputs(b, x)[0], rtol=1e-10, atol=1e-10)


# 117: places of a balanced cut that are united beside places that stay; grouping never ended.
SEEDS = [*range(25), 117]


@pytest.mark.parametrize("seed", SEEDS)
def test_masked_equals_thinned(seed):
    model = build(seed)
    plan = plan_channels(model, 0.4, SIZE, base="channels", scope="global" if seed % 2 else "uniform")
    assert not [group.reason for group in plan.groups if "the network's code" in (group.reason or "")]
    masked = copy.deepcopy(model)
    mask_channels_(masked, plan)
    remove_channels_(model, plan)
    same(masked, model)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_computes_the_same(seed):
    model = build(seed)
    other = copy.deepcopy(model)
    generator = np.random.default_rng(seed)
    for group in channel_groups(model, SIZE).free:
        order = np.arange(group.size)
        for segment in range(group.segments):
            units = np.flatnonzero(group.segment == segment)
            order[units] = generator.permutation(units)
        permute_group_(other, group, order)
    same(model, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_thinning_keeps_the_function(seed):
    model = build(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                gone = torch.rand(module.out_channels, generator=generator) < 0.5
                module.weight[gone] = 0
                if module.bias is not None and seed % 2:
                    module.bias[gone] = 0
            elif isinstance(module, nn.BatchNorm2d) and seed % 3 == 0:
                module.bias.fill_(-9)
    thinned = copy.deepcopy(model)
    remove_channels_(thinned, thin_plan(model, SIZE))
    same(model, thinned)
