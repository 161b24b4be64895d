"""Rectangles of other images: where they come from, how large they are, and that equal draws are equal."""

import pytest
import torch

from secateur.training.cut_mix import cut_mixed


def batch(count=64, side=8):
    """Image n is filled with n."""
    return torch.arange(float(count))[:, None, None, None].expand(count, 3, side, side).clone()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_image_is_itself_and_one_rectangle_of_one_other():
    images = batch()
    (mixed,) = cut_mixed([images], 1.0, seeded())
    assert torch.equal(images, batch())  # the given images stay
    shares = []
    for index, image in enumerate(mixed):
        assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
        foreign = image[0] != index
        assert len(image[0][foreign].unique()) <= 1
        rows, columns = foreign.any(1), foreign.any(0)
        assert bool((foreign == rows[:, None] & columns[None, :]).all())
        for line in (rows, columns):  # one piece
            places = line.nonzero().flatten()
            assert len(places) == 0 or int(places[-1] - places[0]) + 1 == len(places)
        shares.append(float(foreign.double().mean()))
    # The area is uniform from nothing to all of it.
    assert 0.35 < sum(shares) / len(shares) < 0.65 and min(shares) < 0.1 and max(shares) > 0.9


def test_places_reach_every_edge():
    (mixed,) = cut_mixed([batch(512)], 1.0, seeded())
    foreign = (mixed[:, 0] != torch.arange(512.0)[:, None, None]).double().mean(0)
    assert float(foreign.min()) > 0.1 and torch.allclose(foreign, foreign.flip(0), atol=0.1)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_share_of_the_images_is_mixed(share):
    (mixed,) = cut_mixed([batch(400)], share, seeded())
    changed = (mixed != batch(400)).flatten(1).any(1).double().mean()
    assert float(changed) == pytest.approx(share, abs=0.06)


def test_equal_draws_give_equal_images():
    first, second, other = (torch.cat(list(cut_mixed([batch(), batch()], 1.0, seeded(seed)))) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert not torch.equal(first[:64], first[64:])


def test_one_image_alone_is_mixed_with_itself():
    assert torch.equal(next(cut_mixed([batch(1)], 1.0, seeded())), batch(1))
