"""Images with a rectangle of another one: few unlabelled images become many, and a teacher answers all of them.

    sides of the rectangle = sqrt(1 - u) of the image's sides,   u ~ U(0, 1);   its place is uniform

Contrast and edges stay those of images, so that batch norms see what they will see. No labels are mixed, for there are
none: the teacher is asked what it makes of the mixture.

Source: Yun et al. 2019 (CutMix); Beyer et al. 2022 (a teacher that answers the very image that the student sees).
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor


def cut_mixed(batches: Iterable[Tensor], share: float, generator: Generator) -> Iterator[Tensor]:
    """The batches, in which an image gets a rectangle of another image of its batch with probability `share`.

    batches      (images, channels, height, width)
    generator    on the CPU; equal ones give equal images
    """
    for images in batches:
        yield _mixed(images, share, generator) if share else images


def _mixed(images: Tensor, share: float, generator: Generator) -> Tensor:
    count, _, height, width = images.shape
    partners = torch.randperm(count, generator=generator)
    draws = torch.rand(count, 4, generator=generator).tolist()
    mixed = images.clone()
    for image, (chance, kept, down, right) in enumerate(draws):
        if chance >= share:
            continue
        side = (1.0 - kept) ** 0.5
        rows, columns = round(side * height), round(side * width)
        # Of the places that are possible, each is as likely.
        top, left = int(down * (height - rows + 1)), int(right * (width - columns + 1))
        part = (slice(None), slice(top, top + rows), slice(left, left + columns))
        mixed[image][part] = images[partners[image]][part]
    return mixed
