import torch

from secateur.zoo.cifar.resnet import BasicBlock


def test_option_a_keeps_every_second_pixel_and_pads_channels_evenly() -> None:
    block = BasicBlock(4, 8, 2, convolution_shortcut=False)
    x = torch.arange(4 * 4 * 4.0).reshape(1, 4, 4, 4)
    shortcut = block._shortcut(x)
    assert shortcut.shape == (1, 8, 2, 2)
    assert torch.equal(shortcut[:, 2:6], x[:, :, ::2, ::2])
    assert not shortcut[:, :2].any() and not shortcut[:, 6:].any()
