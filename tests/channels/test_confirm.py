"""Groups that the network's own code does not let shrink are found by trying."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from channels.topologies import Lambda, conv, head, images, input_size, network, normed, outputs
from secateur.channels.confirm import confirmed
from secateur.channels.planning import plan_channels
from secateur.channels.remove import remove_channels_
from secateur.channels.trace import channel_groups
from secateur.errors import SparsityError


def test_a_size_that_is_written_down_freezes_its_group_alone():
    """LeNet's x.view(-1, 96): operators do not show that 96 is a number of the program."""

    def forward(m, x):
        return m.fc(F.max_pool2d(m.b(m.a(x)), 2).view(-1, 96))

    net = Lambda(
        forward, a=normed(3, 5), b=normed(5, 6), fc=nn.Sequential(nn.Linear(96, 7), nn.ReLU(), nn.Linear(7, 4))
    )
    groups = confirmed(net, channel_groups(net, (3, 8, 8)), (3, 8, 8))
    reasons = {group.name: group.frozen for group in groups.groups}
    assert "does not run with fewer channels" in (reasons["b.0"] or "")
    assert reasons["a.0"] is None and reasons["fc.0"] is None


def test_a_number_that_follows_from_channels_freezes_them():
    def forward(m, x):
        x = m.a(x)
        return m.head(m.b(x) * x.shape[1])

    net = Lambda(forward, a=normed(3, 5), b=normed(5, 6), head=head(6))
    groups = confirmed(net, channel_groups(net, (3, 8, 8)), (3, 8, 8))
    assert "computes something else" in (groups["a.0"].frozen or "")
    assert groups["b.0"].frozen is None


def test_two_groups_that_must_be_equal_are_frozen_together():
    def forward(m, x):
        a, b = m.a(x), m.b(x)
        return m.head(m.last(torch.cat([a, b], 1)) * (a.shape[1] * b.shape[1] / 25))

    net = Lambda(forward, a=normed(3, 5), b=normed(3, 5), last=conv(10, 4), head=head(4))
    plan = plan_channels(net, 0.5, (3, 8, 8), base="channels")
    assert {group.name for group in plan.groups if group.after < group.before} == {"last"}


@pytest.mark.parametrize("name", ["chain", "grouped", "split_halves", "mlp"])
def test_code_that_takes_sizes_from_its_input_stays_free(name):
    net = network(name)
    groups = channel_groups(net, input_size(name))
    after = confirmed(net, groups, input_size(name))
    assert [group.frozen for group in after.groups] == [group.frozen for group in groups.groups]


def test_numbers_that_the_network_draws_do_not_matter():
    def forward(m, x):
        return m.head(m.a(x) + torch.randn(1, 1, 8, 8))

    net = Lambda(forward, a=normed(3, 5), head=head(5))
    before = torch.get_rng_state()
    plan = plan_channels(net, 0.4, (3, 8, 8), base="channels")
    assert plan.removed == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_the_trial_changes_nothing():
    net = network("chain").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    plan = plan_channels(net, 0.5, (3, 8, 8))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    remove_channels_(net.eval(), plan)
    assert outputs(net, images((3, 8, 8)))[0].shape == (3, 4)


def test_whatever_the_code_raises_freezes_a_group():
    for raised in (lambda c: {5: 1.0}[c], lambda c: 1.0 / (c == 5), lambda c: 1.0 if c == 5 else c.missing):

        def forward(m, x, raised=raised):
            x = m.a(x)
            return m.head(m.b(x * raised(x.shape[1])))

        net = Lambda(forward, a=normed(3, 5), b=normed(5, 6), head=head(6))
        groups = confirmed(net, channel_groups(net, (3, 8, 8)), (3, 8, 8))
        assert "does not run with fewer channels" in (groups["a.0"].frozen or "")
        assert groups["b.0"].frozen is None


def test_a_plan_with_which_the_code_does_not_run_is_refused():
    def forward(m, x):
        x = m.a(x)
        if x.shape[1] < 10:
            raise RuntimeError("too few")
        return m.head(x)

    net = Lambda(forward, a=normed(3, 16), head=head(16))
    assert plan_channels(net, 0.25, (3, 8, 8), base="channels").removed == 4
    with pytest.raises(SparsityError, match=r"does not run with the channels that would be left \(too few\)"):
        plan_channels(net, 0.75, (3, 8, 8), base="channels")
