"""Which batch norm follows which layer, on networks made to confuse."""

import torch
import torch.nn.functional as F
from torch import nn

from secateur.sparsity.norms import following_norms, norm_modules, norm_scale


class Small(nn.Module):
    input_size = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = type("Preprocessing", (), {"input_size": self.input_size})()


class Crooked(Small):
    """Definition order is not the order of use; a ReLU in place; a norm used twice; a norm of a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm2d(4)
        self.first = nn.BatchNorm2d(4)
        self.twice = nn.BatchNorm2d(4)
        self.of_a_sum = nn.BatchNorm2d(4)
        self.rectified = nn.BatchNorm2d(4)
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 1)
        self.c = nn.Conv2d(4, 4, 1)
        self.d = nn.Conv2d(4, 4, 1)
        self.e = nn.Conv2d(4, 4, 1)
        self.f = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(self.a(x)))
        x = self.rectified(F.relu(self.b(x), inplace=True))
        x = self.twice(self.c(self.twice(self.d(x))))
        x = self.of_a_sum(self.e(x) + x)
        return self.last(nn.Identity()(self.f(x)))


def test_data_decide_and_not_names():
    model = Crooked().eval()
    assert following_norms(model) == {"a": "first", "f": "last"}
    assert following_norms(nn.DataParallel(model)) == {"a": "first", "f": "last"}


def test_a_norm_that_several_layers_reach_belongs_to_none():
    class Shared(Small):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.a(self.norm(self.a(x))))

    assert following_norms(Shared()) == {}


def test_a_layer_whose_output_two_norms_read_has_none():
    class Fork(Small):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.one(y) + self.two(y)

    assert following_norms(Fork()) == {}


def test_nothing_is_left_behind():
    model = Crooked()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    following_norms(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_scale_is_what_the_norm_multiplies_with():
    norm = nn.BatchNorm2d(3).eval()
    nn.init.normal_(norm.weight)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        step = norm(x + 1) - norm(x)
    torch.testing.assert_close(step[0, :, 0, 0].double(), norm_scale(norm).scale, rtol=1e-4, atol=1e-5)
    plain = nn.BatchNorm2d(3, affine=False)
    assert norm_scale(plain).gamma.tolist() == [1, 1, 1]


def test_norms_without_running_statistics_do_not_count():
    assert norm_modules(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm1d(3))).keys() == {"1"}


def test_every_convolution_of_a_residual_network_has_its_norm(resnet):
    model = resnet(18)
    model.preprocessing = type("Preprocessing", (), {"input_size": (3, 32, 32)})()
    found = following_norms(model)
    assert len(found) == 20
    assert found["layer1.0.conv2"] == "layer1.0.bn2" and found["layer2.0.downsample.0"] == "layer2.0.downsample.1"
