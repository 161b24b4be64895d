"""What is gathered from images, against the definitions, image by image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import ScoreInputs, Sparsifier, criteria, masks, plan_sparsity
from secateur.training import gather_statistics
from secateur.zoo import ImageData, Preprocessing, loader
from secateur.zoo.image_data import ArrayImages

SIDE = 10
PREPROCESSING = Preprocessing(input_size=(3, SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3)


def images(count: int = 12, classes: int = 4) -> ImageData:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (count, SIDE, SIDE, 3)).astype(np.uint8)
    split = ArrayImages(pixels, (np.arange(count) % classes).astype(np.int64))
    return ImageData("noise", split, split, tuple("abcdef"[:classes]))


class Network(nn.Module):
    """A strided, a grouped and dilated, and a transposed convolution; a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = PREPROCESSING
        self.one = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.two = nn.Conv2d(8, 6, (3, 1), padding=(2, 0), dilation=(2, 1), groups=2)
        self.three = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.idle = nn.Conv2d(2, 2, 1)
        self.head = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.one(x)))
        x = F.relu(self.two(x), inplace=True)
        return self.head(F.relu(self.three(x)).mean((2, 3)))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    net = Network()
    nn.init.normal_(net.norm.running_mean)
    nn.init.uniform_(net.norm.running_var, 0.5, 2)
    nn.init.normal_(net.norm.weight)
    return net.eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(loader(images(), "train", PREPROCESSING, batch_size=12)))


def test_input_squares_are_the_diagonal_of_the_gram_matrix(network):
    found = gather_statistics(network, images(), PREPROCESSING, {"activations"}, batch_size=5)
    x = batch()[0]
    with torch.no_grad():
        behind = F.relu(network.norm(network.one(x)))
    for name, inputs in (("one", x), ("two", behind)):
        layer = getattr(network, name)
        columns = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        diagonal = columns.double().square().mean((0, 2)).reshape(-1, *layer.kernel_size)
        assert found[name].activations is not None
        torch.testing.assert_close(found[name].activations.input_square, diagonal, rtol=1e-5, atol=1e-8)
    assert found["one"].images == 12


def test_activations_are_those_behind_the_norm(network):
    found = gather_statistics(network, images(), PREPROCESSING, {"activations"}, batch_size=5)
    with torch.no_grad():
        y = network.norm(network.one(batch()[0])).double()
    statistics = found["one"].activations
    assert statistics is not None
    torch.testing.assert_close(statistics.zero_share, (F.relu(y) == 0).double().mean((0, 2, 3)))
    torch.testing.assert_close(statistics.mean_activation, F.relu(y).mean((0, 2, 3)), rtol=1e-5, atol=1e-8)
    inputs = ScoreInputs(network.one.weight, statistics=found["one"])
    torch.testing.assert_close(criteria["apoz"].scores(inputs), 1 - statistics.zero_share)


def test_wanda_weighs_every_weight_with_its_own_input(network):
    found = gather_statistics(network, images(), PREPROCESSING, {"activations"})
    statistics = found["two"].activations
    assert statistics is not None
    inputs = ScoreInputs(network.two.weight.detach(), 2, statistics=found["two"])
    scores = criteria["wanda"].weight_scores(inputs)
    for filter_, channel in ((0, 1), (2, 3), (3, 0), (5, 3)):
        of_input = channel + 4 * (filter_ // 3)
        wanted = network.two.weight[filter_, channel].detach().abs() * statistics.input_square[of_input].sqrt()
        torch.testing.assert_close(scores[filter_, channel], wanted.double())


def gradients_of_single_images(network: Network, name: str, labels: torch.Tensor) -> torch.Tensor:
    weight = getattr(network, name).weight
    found = []
    for image, label in zip(batch()[0], labels, strict=True):
        loss = F.cross_entropy(network(image[None]), label[None])
        found.append(torch.autograd.grad(loss, weight)[0])
    return torch.stack(found).double()


@pytest.mark.parametrize("name", ["one", "two", "head"])
def test_gradients_are_those_of_single_images(network, name):
    found = gather_statistics(network, images(), PREPROCESSING, {"gradients"})[name]
    g, w = gradients_of_single_images(network, name, batch()[1]), getattr(network, name).weight.detach().double()
    per_filter = (g * w).flatten(2).sum(2)
    inputs = ScoreInputs(w, statistics=found)
    scores = {key: criteria[key].scores(inputs) for key in criteria if criteria[key].needs == {"gradients"}}
    close = {"rtol": 1e-4, "atol": 1e-9}
    torch.testing.assert_close(scores["taylor"], per_filter.square().mean(0), **close)
    torch.testing.assert_close(scores["taylor-abs"], per_filter.abs().mean(0), **close)
    torch.testing.assert_close(scores["gradient_weight"], per_filter.mean(0).abs(), **close)
    torch.testing.assert_close(scores["gradient_weight-signed"], g.mean(0) * w, **close)
    torch.testing.assert_close(scores["fisher"], g.square().mean(0) * w.square(), **close)


def test_gradients_of_transposed_convolutions_are_filter_first(network):
    found = gather_statistics(network, images(), PREPROCESSING, {"gradients"})["three"].gradients
    g = gradients_of_single_images(network, "three", batch()[1]).mean(0)  # (6, 2, 2, 2), groups 2
    assert found is not None and found.gradient.shape == (4, 3, 2, 2)
    for out, channel in ((0, 0), (1, 2), (2, 0), (3, 1)):
        torch.testing.assert_close(
            found.gradient[out, channel], g[out // 2 * 3 + channel, out % 2], rtol=1e-4, atol=1e-9
        )


def test_labels_of_other_classes_give_way_to_the_network_s_answers(network, capsys):
    found = gather_statistics(network, images(classes=3), PREPROCESSING, {"gradients"})["one"].gradients
    with torch.no_grad():
        answers = network(batch()[0]).argmax(1)
    wanted = gradients_of_single_images(network, "one", answers).mean(0)
    assert "it has 4 outputs, the images 3 classes" in capsys.readouterr().err
    assert found is not None
    torch.testing.assert_close(found.gradient, wanted, rtol=1e-4, atol=1e-9)


def test_the_network_comes_back_as_it_was(network):
    network.train()
    network.two.eval()
    network.head.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gather_statistics(network, images(), PREPROCESSING, {"gradients", "activations"}, images=4)
    assert network.training and not network.two.training
    assert not network.head.weight.requires_grad and network.one.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_layer_that_is_never_called_has_no_statistics(network):
    found = gather_statistics(network, images(), PREPROCESSING, {"activations"})
    assert "idle" not in found
    plan = plan_sparsity(network, 0.5, "unstructured", "wanda", base="selected")
    with pytest.raises(SparsityError, match=r"idle: there are no statistics of its activations"):
        Sparsifier(network, plan, statistics=found).update_(0)


@pytest.mark.parametrize("criterion", ["taylor", "apoz", "mean_activation", "gradient_weight", "fpgm", "nuclear"])
def test_filters_go_by_what_the_data_says(network, criterion):
    needs = criteria[criterion].needs
    found = gather_statistics(network, images(), PREPROCESSING, needs) if needs else None
    plan = plan_sparsity(network, 0.5, "filter", criterion, base="selected", include_first=True, exclude=["idle"])
    Sparsifier(network, plan, statistics=found).update_(0)
    known = None if found is None else found["one"]
    scores = criteria[criterion].scores(ScoreInputs(network.one.parametrizations.weight.original, statistics=known))
    kept = masks(network)["one"].flatten(1).any(1)
    assert set(scores[~kept].tolist()) == set(scores.sort().values[:4].tolist())


def test_without_statistics_the_sparsifier_says_where_they_come_from(network):
    plan = plan_sparsity(network, 0.5, "filter", "taylor", base="selected")
    with pytest.raises(SparsityError, match="gather_statistics"):
        Sparsifier(network, plan)
