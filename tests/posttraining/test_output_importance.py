"""What outputs matter, against what algebra says of it."""

import pytest
import torch
from torch import nn

from secateur.posttraining import output_importance as module
from secateur.posttraining.output_importance import LEAST, output_importance


def images(count: int = 8, sides: tuple[int, ...] = (3, 6, 6)) -> torch.Tensor:
    return torch.rand(count, *sides, generator=torch.Generator().manual_seed(1))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 5),
    ).eval()


NAMES = {"0": ("0",), "2": ("2",), "5": ("5",)}


def test_it_is_the_root_of_the_fisher_information_of_the_answers(monkeypatch):
    """One image, many draws: F_c = b_c^T (diag(p) - p p^T) b_c for logits = B (A x)."""
    count = 20_000
    monkeypatch.setattr(module, "MOST_IMAGES", count)
    monkeypatch.setattr(module, "IMAGES_AT_A_TIME", count)
    torch.manual_seed(3)
    first, last = nn.Linear(6, 4), nn.Linear(4, 3)
    image = torch.randn(1, 6)
    found = output_importance(nn.Sequential(first, last), {"0": ("0",), "1": ("1",)}, lambda: [image.repeat(count, 1)])
    with torch.no_grad():
        p = torch.softmax(last(first(image))[0] / module.TEMPERATURE, dim=0)
        covariance = torch.diag(p) - torch.outer(p, p)
        for name, towards in (("0", last.weight), ("1", torch.eye(3))):
            roots = (towards.T @ covariance @ towards).diagonal().sqrt()
            assert found[name].tolist() == pytest.approx((roots / roots.mean()).tolist(), rel=0.03)


def test_every_position_counts_once():
    """A map of 4 positions that are summed later has what 4 calls with one position have."""
    torch.manual_seed(0)
    point, last = nn.Conv2d(3, 5, 1), nn.Linear(5, 4)
    pooled = nn.Sequential(point, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3, 5), last)
    with torch.no_grad():
        flat[1].weight.copy_(point.weight.flatten(1))
        flat[1].bias.copy_(point.bias)
    same = images(40, (3, 1, 1))
    maps = output_importance(pooled, {"0": ("0",)}, lambda: [same.expand(-1, -1, 2, 2)])["0"]
    assert torch.allclose(maps, output_importance(flat, {"1": ("1",)}, lambda: [same])["1"], rtol=1e-5)


def test_an_output_that_is_made_longer_and_read_shorter_matters_less():
    """The function is the same, and the draws are: what norms that are folded do to a filter."""
    plain, scaled = network(), network()
    factor = torch.tensor([8.0, 1.0, 0.25, 1.0, 1.0, 1.0])
    with torch.no_grad():
        scaled[0].weight.mul_(factor[:, None, None, None])
        scaled[0].bias.mul_(factor)
        scaled[2].weight.div_(factor.reshape(2, 1, 3, 1, 1).expand(2, 2, 3, 1, 1).reshape(4, 3, 1, 1))
    before, after = (output_importance(each, NAMES, lambda: [images()]) for each in (plain, scaled))
    ratio = after["0"] / before["0"]
    assert torch.allclose(ratio / ratio[1], 1 / factor.double(), rtol=1e-4)
    assert torch.allclose(after["5"], before["5"])


def test_dead_outputs_have_the_least_and_layers_that_nothing_depends_on_are_missing():
    dead = network()
    dead.add_module("unused", nn.Identity())
    with torch.no_grad():
        dead[0].bias[2] = -1e3  # never above zero
    found = output_importance(dead, NAMES, lambda: [images()])
    assert float(found["0"][2]) == LEAST and float(found["0"].min()) == LEAST
    assert found["0"].shape == (6,) and found["0"].dtype == torch.float64 and float(found["0"].mean()) < 1.01

    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.aside = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            self.aside(x)
            return self.used(x)

    assert set(output_importance(Aside(), {"used": ("used",), "aside": ("aside",)}, lambda: [torch.rand(4, 3)])) == {
        "used"
    }


def test_the_network_stays_as_it_was_and_few_images_are_looked_at(monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 20)
    own = network().train()
    own[5].weight.requires_grad_(False)
    seen: list[int] = []
    own.register_forward_pre_hook(lambda _module, args: seen.append(len(args[0])))
    with torch.no_grad():
        first = output_importance(own, NAMES, lambda: [images(12), images(12), images(12)])
    assert own.training and seen == [12, 8] and not own[5].weight.requires_grad
    assert all(parameter.grad is None for parameter in own.parameters())
    again = output_importance(own, NAMES, lambda: [images(12), images(12)])
    other = output_importance(own, NAMES, lambda: [images(12), images(12)], seed=1)
    assert all(torch.equal(first[name], again[name]) for name in NAMES)
    assert not torch.equal(first["0"], other["0"])


def test_a_layer_that_runs_twice_has_the_sum_of_both():
    torch.manual_seed(0)
    shared, last = nn.Linear(4, 4), nn.Linear(4, 3)
    twice = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), last)
    apart = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), last)
    apart[0].load_state_dict(shared.state_dict())
    apart[2].load_state_dict(shared.state_dict())
    pixels = torch.randn(30, 4)
    both = output_importance(twice, {"0": ("0",)}, lambda: [pixels])["0"]
    one = output_importance(apart, {"both": ("0", "2")}, lambda: [pixels])["both"]
    assert torch.allclose(both, one)


def test_answers_without_gradient_tell_nothing():
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        @torch.no_grad()
        def forward(self, x):
            return self.layer(x)

    assert output_importance(Cut(), {"layer": ("layer",)}, lambda: [torch.rand(4, 4)]) == {}
