"""A torch network as a subject: what goes in comes out, whatever lies around the weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from secateur.errors import ModelError, PosttrainingError, SparsityError
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import attach_masks_, filters_first, mask_of, masks, set_mask_, stored_weight
from secateur.zoo import Preprocessing
from tiny_networks import LeNet, Tiny

SMALL = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3)


class Odd(nn.Module):
    """A convolution used twice, two that share a tensor, a transposed one, one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = SMALL
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 1, bias=False)
        self.one = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 3, padding=1)
        self.other.weight = self.one.weight
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.unused = nn.Linear(5, 2)
        self.head = nn.Linear(6, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.twice(torch.relu(self.twice(self.first(x))))
        x = self.drop(torch.relu(self.other(torch.relu(self.one(input=x)))))
        return self.head(self.up(x).mean(dim=(2, 3)))


@pytest.fixture
def odd() -> Odd:
    torch.manual_seed(0)
    return Odd()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def collected(subject, images, names, **options):
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    logits = subject.run(images, {name: seen[name].append for name in names}, **options)
    return seen, logits


def test_layers_are_those_of_the_census(odd):
    subject = TorchSubject(odd)
    assert [layer.name for layer in subject.layers] == ["first", "twice", "one", "up", "unused", "head"]
    assert subject.layer("other").name == "one" and subject.input_size == (3, 8, 8)
    with pytest.raises(SparsityError, match="Did you mean 'first'"):
        subject.weight("frist")


def test_images_lie_channels_last_where_the_network_can_compute_so():
    images = torch.randn(5, 3, 16, 16)
    tiny, lenet = Tiny(), LeNet()
    for network, name, layout in (
        (tiny, "depthwise", torch.channels_last),
        (lenet, "conv2", torch.contiguous_format),
    ):
        seen, logits = collected(TorchSubject(network), images, [name])
        assert seen[name][0].is_contiguous(memory_format=layout)
        assert all(value.is_contiguous() for value in network.state_dict().values())
        with torch.no_grad():
            assert torch.equal(logits, network.eval()(images.to(memory_format=layout)))


def test_logits_are_those_of_evaluation_mode_and_modes_come_back(odd, images):
    odd.train()
    odd.one.eval()
    modes = [module.training for module in odd.modules()]
    logits = TorchSubject(odd).run(images)
    assert [module.training for module in odd.modules()] == modes
    assert not logits.requires_grad
    torch.testing.assert_close(
        logits, copy.deepcopy(odd).eval()(images.to(memory_format=torch.channels_last)), rtol=0, atol=0
    )


def test_watched_inputs_give_the_outputs(odd, images):
    names = ["first", "twice", "one", "up", "head"]
    seen, logits = collected(TorchSubject(odd), images, names)
    assert [len(seen[name]) for name in names] == [1, 2, 2, 1, 1]
    torch.testing.assert_close(odd.head(seen["head"][0]), logits)
    torch.testing.assert_close(torch.relu(odd.twice(seen["twice"][0])), seen["twice"][1])
    torch.testing.assert_close(torch.relu(odd.one(seen["one"][0])), seen["one"][1])
    assert not any(module._forward_pre_hooks for module in odd.modules())


def test_a_name_that_shares_the_weight_watches_the_layer(odd, images):
    both: list[str] = []
    TorchSubject(odd).run(images, {"other": lambda x: both.append("a"), "one": lambda x: both.append("b")})
    assert sorted(both) == ["a", "a", "b", "b"]


def test_order_is_that_of_execution(odd, images):
    assert TorchSubject(odd).order(images) == ["first", "twice", "one", "up", "head"]


@pytest.mark.parametrize("name", ["first", "twice", "one", "head", "unused"])
def test_stopping_early_sees_the_same(odd, images, name):
    subject = TorchSubject(odd)
    whole, _ = collected(subject, images, [name])
    ran: list[str] = []
    odd.up.register_forward_hook(lambda *_: ran.append("up"))
    odd.head.register_forward_hook(lambda *_: ran.append("head"))
    subject.run(images, {"one": lambda _: None}, stop_early=True)  # learns the trace
    ran.clear()
    early, logits = collected(subject, images, [name], stop_early=True)
    assert logits is None
    assert len(early[name]) == len(whole[name])
    assert all(torch.equal(a, b) for a, b in zip(early[name], whole[name], strict=True))
    assert ran == (["up"] if name == "head" else [])


def test_hooks_go_when_a_callback_fails(odd, images):
    def fail(_inputs):
        raise RuntimeError("mine")

    odd.train()
    with pytest.raises(RuntimeError, match="mine"):
        TorchSubject(odd).run(images, {"one": fail})
    assert odd.training and not any(module._forward_pre_hooks for module in odd.modules())


@pytest.mark.parametrize("name", ["first", "one", "up", "head"])
def test_what_is_stored_is_the_weight(odd, name):
    subject = TorchSubject(odd)
    before = subject.weight(name)
    assert before.shape == subject.layer(name).filter_shape
    weight = torch.randn_like(before)
    subject.store_(name, weight)
    assert torch.equal(subject.weight(name), weight)
    assert masks(odd) == {}


def test_a_transposed_convolution_is_filters_first(odd):
    weight = TorchSubject(odd).weight("up")
    assert weight.shape == (6, 2, 2, 2)
    # Filter 4 is the second of group 1, whose inputs are 2 and 3.
    assert torch.equal(weight[4, 1], odd.up.weight[3, 1])


def test_weights_given_out_are_copies(odd, images):
    subject = TorchSubject(odd)
    before = subject.run(images)
    subject.weight("first").zero_()
    subject.bias("first").zero_()
    assert torch.equal(subject.run(images), before)


def test_a_mask_is_attached_and_the_effective_weight_is_masked(odd):
    subject = TorchSubject(odd)
    for name in ("first", "one", "up"):
        weight = torch.randn(subject.layer(name).filter_shape)
        mask = torch.rand_like(weight) < 0.5
        subject.store_(name, weight, mask=mask)
        assert torch.equal(subject.weight(name), weight * mask)
        layer = subject.layer(name)
        module = odd.get_submodule(name)
        assert torch.equal(filters_first(mask_of(module), layer.kind, layer.groups), mask)
    assert mask_of(odd.one) is mask_of(odd.other)
    assert stored_weight(odd.one) is stored_weight(odd.other)
    # once more, other values behind other masks
    weight, mask = torch.randn(4, 3, 3, 3), torch.rand(4, 3, 3, 3) < 0.5
    subject.store_("first", weight, mask=mask)
    assert torch.equal(subject.weight("first"), weight * mask)


def test_without_a_mask_an_old_one_opens_only_where_it_must(odd):
    subject = TorchSubject(odd)
    dense = subject.weight("first")
    mask = torch.rand_like(dense) < 0.5
    subject.store_("first", dense, mask=mask)
    subject.store_("first", 2 * dense * mask)
    assert torch.equal(mask_of(odd.first), mask)
    subject.store_("first", dense)
    assert torch.equal(subject.weight("first"), dense)


def test_masks_that_were_there_are_respected(odd, images):
    attach_masks_(odd, ["first"])
    mask = torch.rand(4, 3, 3, 3) < 0.5
    set_mask_(odd.first, mask)
    subject = TorchSubject(odd)
    assert torch.equal(subject.weight("first"), stored_weight(odd.first) * mask)
    seen, _ = collected(subject, images, ["first", "twice"])
    expected = F.conv2d(images, subject.weight("first"), subject.bias("first"), padding=1)
    torch.testing.assert_close(seen["twice"][0], expected)


def test_weight_norm_becomes_a_plain_weight(odd, images):
    parametrizations.weight_norm(odd.first)
    subject = TorchSubject(odd)
    torch.testing.assert_close(subject.weight("first"), odd.first.weight)
    before = subject.run(images)
    subject.store_("first", subject.weight("first"))
    torch.testing.assert_close(subject.run(images), before)
    weight, mask = torch.randn(4, 3, 3, 3), torch.rand(4, 3, 3, 3) < 0.5
    subject.store_("first", weight, mask=mask)
    assert torch.equal(subject.weight("first"), weight * mask)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_old_weight_norm_is_a_sentence(odd):
    nn.utils.weight_norm(odd.first)
    with pytest.raises(PosttrainingError, match="first: its weight is computed anew"):
        TorchSubject(odd).store_("first", torch.zeros(4, 3, 3, 3))


def test_a_bias_is_replaced_or_created(odd, images):
    subject = TorchSubject(odd)
    subject.store_("first", subject.weight("first"), bias=torch.arange(4.0))
    assert torch.equal(odd.first.bias, torch.arange(4.0))
    assert subject.bias("twice") is None
    before = subject.run(images)
    subject.store_("twice", subject.weight("twice"), bias=torch.zeros(4))
    assert isinstance(odd.twice.bias, nn.Parameter) and "twice.bias" in odd.state_dict()
    assert torch.equal(subject.run(images), before)
    assert torch.equal(subject.bias("twice"), torch.zeros(4))


@pytest.mark.parametrize("tied", [False, True])
def test_biases_of_layers_that_share_a_weight_are_shifted_alike(odd, tied):
    if tied:
        odd.other.bias = odd.one.bias
    subject = TorchSubject(odd)
    one, other = odd.one.bias.detach().clone(), odd.other.bias.detach().clone()
    shift = torch.arange(4.0)
    subject.store_("one", subject.weight("one"), bias=one + shift)
    torch.testing.assert_close(odd.one.bias.detach(), one + shift)
    torch.testing.assert_close(odd.other.bias.detach(), other + shift)
    assert (odd.one.bias is odd.other.bias) == tied


def test_another_shape_is_a_sentence(odd):
    subject = TorchSubject(odd)
    with pytest.raises(PosttrainingError, match=r"up: has a weight of shape \(6, 2, 2, 2\), filters first"):
        subject.store_("up", odd.up.weight.detach())
    with pytest.raises(PosttrainingError, match="has 4 biases"):
        subject.store_("first", subject.weight("first"), bias=torch.zeros(1))
    with pytest.raises(PosttrainingError, match="filters first"):
        subject.store_("first", subject.weight("first"), mask=torch.ones(4, 3, dtype=torch.bool))


def test_sharing_with_other_strides_is_a_sentence(odd):
    odd.other.stride = (2, 2)
    subject = TorchSubject(odd)
    with pytest.raises(PosttrainingError, match="one: shares its weight with other"):
        subject.geometry("one")
    assert subject.geometry("up").kind == "conv_transpose"


def test_half_precision_is_computed_in_its_own_type_and_given_in_float32(odd, images):
    subject = TorchSubject(odd.bfloat16())
    assert subject.run(images).dtype == torch.bfloat16
    assert subject.weight("first").dtype == subject.bias("first").dtype == torch.float32
    subject.store_("first", subject.weight("first"), mask=torch.zeros(4, 3, 3, 3, dtype=torch.bool))
    assert odd.first.weight.dtype == torch.bfloat16


def test_the_digest_follows_everything_that_counts():
    torch.manual_seed(0)
    network = Tiny()
    subject, digests = TorchSubject(network), set()
    digests.add(subject.digest())
    assert subject.digest() in digests
    with torch.no_grad():
        network.norm.running_mean[0] += 1
    digests.add(subject.digest())
    subject.store_("body", subject.weight("body"), mask=torch.ones(16, 8, 3, 3, dtype=torch.bool))
    digests.add(subject.digest())
    mask_of(network.body)[0, 0, 0, 0] = False
    digests.add(subject.digest())
    network.body.stride = (1, 1)
    digests.add(subject.digest())
    assert len(digests) == 5


def test_a_network_that_does_not_say_how_images_are_prepared_is_a_sentence():
    with pytest.raises(ModelError, match="does not say how its images are prepared"):
        TorchSubject(nn.Sequential(nn.Conv2d(3, 4, 1)))
    assert TorchSubject(nn.Conv2d(3, 4, 1), SMALL).layers[0].name == ""


def test_a_network_that_returns_no_tensor_is_a_sentence(images):
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(PosttrainingError, match="Pair: returns a tuple"):
        TorchSubject(Pair(), SMALL).run(images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_go_where_the_network_is(odd, images):
    subject = TorchSubject(odd.cuda())
    seen, logits = collected(subject, images, ["head"])
    assert logits.device.type == seen["head"][0].device.type == subject.weight("head").device.type == "cuda"
    subject.store_("first", torch.zeros(4, 3, 3, 3), torch.ones(4), torch.ones(4, 3, 3, 3, dtype=torch.bool))
    assert torch.equal(subject.bias("first").cpu(), torch.ones(4))
