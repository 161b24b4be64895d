"""Data sets, one file each; importing this registers them."""

from secateur.zoo.datasets import cifar10, digits, imagefolder, unlabeled

__all__ = ["cifar10", "digits", "imagefolder", "unlabeled"]
