"""What allocations ask about a network: weights without masks, scores of blocks, depth by one run."""

import pytest
import torch
from torch import nn

from secateur.sparsity import AllocationOptions, BlockOf, Unstructured, plan_sparsity, sparsify_
from secateur.sparsity.network_facts import NetworkFacts


def test_depth_is_how_often_the_input_was_halved(resnet):
    found = NetworkFacts(resnet(18), Unstructured(), (3, 64, 64)).halvings()
    assert found["conv1"] == 0 and found["layer1.0.conv1"] == 2 and found["layer2.0.conv1"] == 2
    assert found["layer2.0.conv2"] == 3 and found["layer4.1.conv2"] == 5 and "fc" not in found


def test_weights_are_the_dense_ones_behind_a_mask():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    before = model[1].weight.detach().clone()
    sparsify_(model, 0.5, "unstructured", base="selected")
    assert torch.equal(NetworkFacts(model, Unstructured()).weight("1"), before)


def test_a_transposed_convolution_is_seen_filter_first():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3))
    facts = NetworkFacts(model, BlockOf(2))
    assert tuple(facts.weight("0").shape) == (6, 4, 3, 3)
    assert facts.group_scores("0", facts.weight("0").abs()).numel() == 3 * 4


@pytest.mark.parametrize(
    "allocation", ["global_magnitude", "l1_normalised", "l2_normalised", "lamp", "energy", "heuristic", "er"]
)
@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_every_allocation_plans_a_network_and_meets_the_target(allocation, pattern):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    model.preprocessing = None
    plan = plan_sparsity(model, 0.6, pattern, allocation=allocation, options=AllocationOptions(tolerance=0.005))
    assert plan.achieved == pytest.approx(0.6, abs=0.006) and set(plan.levels) == {"1", "2"}
    assert bool(plan.trials) == (allocation == "energy")
    assert type(plan).from_dict(plan.to_dict()) == plan
