"""Channels chosen by what their readers can do without, and the readers fitted: against least squares, and exactly."""

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from channels.topologies import Lambda, conv, head, normed
from secateur.channels import mask_channels_, plan_channels, reconstruct_channels, refit_, remove_channels_
from secateur.errors import SparsityError
from secateur.sparsity import census, set_mask_, stored_weight
from secateur.sparsity.mask import attach_masks_

SIZE = (3, 8, 8)


class Images:
    """Batches of noise, the same each time they are gone through; counts how often that is."""

    def __init__(self, batches: int = 4, size: tuple[int, ...] = SIZE, batch: int = 16) -> None:
        self._shape, self.rounds = (batches, batch, *size), 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.rounds += 1
        generator = torch.Generator().manual_seed(5)
        for _ in range(self._shape[0]):
            yield torch.randn(self._shape[1:], generator=generator), torch.zeros(self._shape[1], dtype=torch.long)

    def all(self) -> Tensor:
        return torch.cat([images for images, _ in self])


def small(model: nn.Module, found) -> nn.Module:
    network = copy.deepcopy(model).eval()
    refit_(network, found.weights)
    remove_channels_(network, found.plan)
    return network


def kept(found, tensor: str) -> list[int]:
    return next(list(cut.kept) for cut in found.plan.cuts if (cut.tensor, cut.axis) == (tensor, 0))


def chain_that_needs(channels: list[int], seed: int = 0, **second) -> nn.Module:
    """Two convolutions; the second reads only some channels of the first, but its other weights look larger."""
    torch.manual_seed(seed)
    first, reader = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, **second)
    with torch.no_grad():
        others = [i for i in range(8) if i not in channels]
        reader.weight[:, others] = 0
        # These are never on, however large the weights that read them.
        reader.weight[:, others[:1]] = 10
        first.weight[others[:1]] = 0
        first.bias[others[:1]] = -1
    return nn.Sequential(first, nn.ReLU(), reader, head(4)).eval()


@pytest.mark.parametrize("solver", ["lars", "ista"])
@pytest.mark.parametrize("second", [{}, {"stride": 2, "padding": 1}, {"padding": 2, "padding_mode": "reflect"},
                                    {"dilation": 2, "padding": (1, 2)}, {"padding": "same"}])  # fmt: skip
def test_a_layer_that_depends_on_k_channels_keeps_these_and_computes_the_same(solver, second):
    model = chain_that_needs([1, 4, 6], **second)
    found = reconstruct_channels(model, 5 / 8, Images(), SIZE, base="channels", solver=solver, exclude=("2",))
    assert kept(found, "0.weight") == [1, 4, 6]
    (layer,) = found.layers
    assert (layer.name, layer.kept, layer.channels) == ("2", 3, 8)
    assert layer.masked == pytest.approx(0, abs=1e-9) and layer.refit == pytest.approx(0, abs=1e-9)
    images = Images().all()
    with torch.no_grad():
        torch.testing.assert_close(small(model, found)(images), model(images), rtol=1e-4, atol=1e-5)


def test_channels_that_others_can_stand_in_for_go_and_their_readers_take_over():
    torch.manual_seed(0)
    first, reader = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
    with torch.no_grad():
        for copy_of in range(4):
            first.weight[4 + copy_of] = 2 * first.weight[copy_of]
            first.bias[4 + copy_of] = 2 * first.bias[copy_of]
    model = nn.Sequential(first, nn.ReLU(), reader, head(4)).eval()
    found = reconstruct_channels(model, 0.5, Images(), SIZE, base="channels", exclude=("2",))
    # Of each pair one is enough, and LASSO takes the one that needs the smaller weights: the larger one.
    assert sorted(i % 4 for i in kept(found, "0.weight")) == [0, 1, 2, 3]
    assert found.layers[0].refit < 1e-9 < found.layers[0].masked
    images = Images().all()
    with torch.no_grad():
        torch.testing.assert_close(small(model, found)(images), model(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"groups": 2, "padding": 1}, {"bias": False}])
def test_refit_weights_are_those_of_least_squares(options):
    torch.manual_seed(1)
    reader = nn.Conv2d(8, 6, 3, **options)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), reader, head(6)).eval()
    # More positions than there are: all of them count, and the sums are those of the unfolded input.
    found = reconstruct_channels(
        model, 0.5, Images(), SIZE, criterion="feature_maps", base="channels", positions=1000, exclude=("2",)
    )
    stay = kept(found, "0.weight")
    with torch.no_grad():
        inputs = F.relu(model[0](Images().all()))
        target = reader(inputs) - (0 if reader.bias is None else reader.bias[:, None, None])
        groups = reader.groups
        for part in range(groups):
            own = [c for c in stay if c * groups // 8 == part]
            x = F.unfold(inputs[:, own], 3, padding=reader.padding, stride=reader.stride).transpose(1, 2).flatten(0, 1)
            rows = slice(part * 6 // groups, (part + 1) * 6 // groups)
            y = target[:, rows].flatten(2).transpose(1, 2).flatten(0, 1)
            expected = torch.linalg.lstsq(x.double(), y.double()).solution.T
            got = found.weights["2"][rows][:, [c - part * 8 // groups for c in own]].flatten(1)
            torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-4)


def test_feature_maps_keeps_what_is_read_with_the_largest_weights():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), head(4)).eval()
    found = reconstruct_channels(
        model, 0.5, Images(), SIZE, criterion="feature_maps", base="channels", exclude=("2",), refit=False
    )
    read = model[2].weight.abs().sum((0, 2, 3))
    assert kept(found, "0.weight") == sorted(read.argsort(descending=True)[:4].tolist())
    assert found.weights == {} and found.layers[0].masked == found.layers[0].refit > 0


def two_readers() -> nn.Module:
    def forward(m, x):
        x = F.relu(m.first(x))
        return m.head(m.a(x) + m.b(x))

    return Lambda(forward, first=conv(3, 6), a=conv(6, 4), b=conv(6, 4, 1), head=head(4)).eval()


def test_a_group_with_two_readers_keeps_what_their_summed_error_needs():
    torch.manual_seed(3)
    model = two_readers()
    with torch.no_grad():
        model.a.weight[:, [0, 1, 2, 3]] = 0
        model.b.weight[:, [0, 1, 4, 5]] = 0
        model.b.weight[:, 2] *= 10
        model.a.weight[:, 5] *= 10
        model.a.weight[:, 4] *= 0.01
        model.b.weight[:, 3] *= 0.01
    found = reconstruct_channels(model, 4 / 6, Images(), SIZE, base="channels", exclude=("a",))
    assert kept(found, "first.weight") == [2, 5]
    assert {layer.name for layer in found.layers} == {"a", "b"}
    assert all(layer.refit <= layer.masked < 0.1 for layer in found.layers)


def residual() -> nn.Module:
    def forward(m, x):
        x = F.relu(m.stem(x))
        return m.head(F.relu(m.down(x) + m.bn(m.b(F.relu(m.a(x))))))

    return Lambda(
        forward, stem=conv(3, 8), a=conv(8, 8), b=conv(8, 6), bn=nn.BatchNorm2d(6), down=conv(8, 6, 1), head=head(6)
    )


def test_the_end_of_a_residual_branch_makes_good_the_error_of_the_shortcut():
    torch.manual_seed(4)
    model = residual()
    with torch.no_grad():
        model.train()(Images().all())
        model.bn.weight.uniform_(0.5, 2)
    model.eval()
    found = reconstruct_channels(
        model, 0.5, Images(), SIZE, criterion="feature_maps", base="channels", positions=1000, exclude=("b",)
    )
    images = Images().all()
    # The shortcut lost half of what it reads; the branch is fitted to the dense sum less the shortcut of now.
    by_hand = copy.deepcopy(model)
    refit_(by_hand, {name: weight for name, weight in found.weights.items() if name != "b"})
    mask_channels_(by_hand, found.plan)
    with torch.no_grad():
        x, now = F.relu(model.stem(images)), F.relu(by_hand.stem(images))
        wanted = model.down(x) + model.bn(model.b(F.relu(model.a(x)))) - by_hand.down(now)
        scale = model.bn.weight / (model.bn.running_var + model.bn.eps).sqrt()
        shift = model.bn.bias - model.bn.running_mean * scale
        target = (wanted - shift[:, None, None]) / scale[:, None, None] - model.b.bias[:, None, None]
        stay = kept(found, "a.weight")
        columns = F.unfold(F.relu(by_hand.a(now))[:, stay], 3, padding=1).transpose(1, 2).flatten(0, 1)
        expected = torch.linalg.lstsq(
            columns.double(), target.flatten(2).transpose(1, 2).flatten(0, 1).double()
        ).solution.T
    torch.testing.assert_close(found.weights["b"][:, stay].flatten(1).double(), expected, rtol=1e-3, atol=1e-3)


def test_masked_and_thinned_networks_agree_and_lasso_with_refit_beats_lengths():
    torch.manual_seed(6)
    model = nn.Sequential(normed(3, 12), normed(12, 12), normed(12, 10), head(10))
    model.train()
    with torch.no_grad():
        for images, _ in Images(8):
            model(images)
    model.eval()
    images = Images().all()
    found = reconstruct_channels(model, 0.5, Images(), SIZE, base="macs", round_to=2)
    thinned = small(model, found)
    masked = copy.deepcopy(model)
    refit_(masked, found.weights)
    mask_channels_(masked, found.plan)
    plain = copy.deepcopy(model)
    plan = plan_channels(model, 0.5, SIZE, base="macs", round_to=2)
    remove_channels_(plain, plan)
    with torch.no_grad():
        torch.testing.assert_close(masked(images), thinned(images), rtol=1e-4, atol=1e-5)
        error = {name: float((net(images) - model(images)).square().sum()) for name, net in
                 {"lasso": thinned, "l2": plain}.items()}  # fmt: skip
    assert census(thinned, SIZE).macs == found.plan.macs_after == plan.macs_after
    assert error["lasso"] < 0.5 * error["l2"]


def test_same_seed_same_result_and_another_seed_another_one():
    torch.manual_seed(0)
    model = nn.Sequential(normed(3, 8), normed(8, 8), head(8)).eval()
    options = {"base": "channels", "positions": 3}
    first, again, other = (
        reconstruct_channels(model, 0.5, Images(2), SIZE, seed=seed, **options) for seed in (1, 1, 2)
    )
    assert all(torch.equal(weight, again.weights[name]) for name, weight in first.weights.items())
    assert any(not torch.equal(weight, other.weights[name]) for name, weight in first.weights.items())


def test_images_are_gone_through_once_for_every_group_and_the_model_stays_as_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(normed(3, 8), normed(8, 6), head(6)).eval()
    before = copy.deepcopy(model.state_dict())
    images = Images()
    found = reconstruct_channels(model, 0.5, images, SIZE, base="channels")
    assert images.rounds == 2 == len(found.layers)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_zeros_of_a_sparse_network_stay_and_the_rest_is_fitted_row_by_row():
    torch.manual_seed(7)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3), head(4)).eval()
    attach_masks_(model, ["2"])
    mask = torch.rand(model[2].weight.shape) > 0.3
    set_mask_(model[2], mask)
    found = reconstruct_channels(model, 0.25, Images(), SIZE, base="channels", positions=1000, exclude=("2",))
    (layer,) = found.layers
    assert layer.refit < layer.masked
    masked = copy.deepcopy(model)
    refit_(masked, found.weights)
    assert torch.equal(masked[2].weight != 0, mask & (found.weights["2"] != 0))
    stay = torch.zeros(8, dtype=torch.bool)
    stay[kept(found, "0.weight")] = True
    with torch.no_grad():
        inputs = F.relu(model[0](Images().all()))
        x = F.unfold(inputs, 3).transpose(1, 2).flatten(0, 1).double()
        y = (model[2](inputs) - model[2].bias[:, None, None])[:, 1].flatten().double()
        columns = (mask[1] & stay[:, None, None]).flatten()
        expected = torch.linalg.lstsq(x[:, columns], y[:, None]).solution[:, 0]
    torch.testing.assert_close(stored_weight(masked[2])[1].flatten()[columns].double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reader", [
    lambda: (nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1), head(4)),
    lambda: (nn.ConvTranspose2d(8, 6, 3, stride=3, dilation=2), head(6)),
    lambda: (nn.Flatten(), nn.Linear(8 * 64, 5), nn.ReLU(), nn.Linear(5, 3)),
    lambda: (nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 5, 1), head(5)),
])  # fmt: skip
def test_other_readers_lose_nothing_when_what_goes_is_never_on(reader):
    torch.manual_seed(8)
    first, *rest = nn.Conv2d(3, 8, 3, padding=1), *reader()
    with torch.no_grad():
        first.weight[[2, 3, 5, 6]] = 0
        first.bias[[2, 3, 5, 6]] = -1
    if any(isinstance(module, nn.Conv2d) and module.groups == 8 for module in rest):
        rest[0].bias.data.zero_()
    model = nn.Sequential(first, nn.ReLU(), *rest).eval()
    found = reconstruct_channels(model, 0.0001, Images(), SIZE, base="channels", ratios={"0": 0.5})
    assert kept(found, "0.weight") == [0, 1, 4, 7]
    images = Images().all()
    with torch.no_grad():
        torch.testing.assert_close(small(model, found)(images), model(images), rtol=1e-3, atol=1e-4)


def test_concatenated_channels_count_only_for_the_group_that_loses_them():
    torch.manual_seed(9)

    def forward(m, x):
        return m.head(m.reader(F.relu(torch.cat([m.a(x), m.b(x)], 1))))

    model = Lambda(forward, a=conv(3, 6), b=conv(3, 6), reader=conv(12, 4), head=head(4)).eval()
    with torch.no_grad():
        model.reader.weight[:, [0, 1, 2, 9, 10, 11]] = 0
    found = reconstruct_channels(model, 0.5, Images(), SIZE, base="channels", exclude=("reader",))
    assert kept(found, "a.weight") == [3, 4, 5]
    assert kept(found, "b.weight") == [0, 1, 2]
    assert all(layer.refit < 1e-9 for layer in found.layers)


def test_what_cannot_be_is_said():
    model = nn.Sequential(normed(3, 8), head(8)).eval()
    with pytest.raises(SparsityError, match="Did you mean 'lasso'"):
        reconstruct_channels(model, 0.5, Images(), SIZE, criterion="laso")  # type: ignore[arg-type]
    with pytest.raises(SparsityError, match=r"unknown solver 'lasers'\. Did you mean 'lars'"):
        reconstruct_channels(model, 0.5, Images(), SIZE, base="channels", solver="lasers")  # type: ignore[arg-type]
    with pytest.raises(SparsityError, match="no image"):
        reconstruct_channels(model, 0.5, [], SIZE, base="channels")
    with pytest.raises(SparsityError, match="position"):
        reconstruct_channels(model, 0.5, Images(), SIZE, positions=0)
    with pytest.raises(SparsityError, match=r"0\.0: has weights of shape 8x3x3x3, the fitted ones have 2x2"):
        refit_(model, {"0.0": torch.zeros(2, 2)})
    with pytest.raises(SparsityError, match="unknown layer"):
        refit_(model, {"nowhere": torch.zeros(2, 2)})
