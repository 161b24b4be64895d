"""Layers that see few columns: a classifier behind a global average gets one column of each image.

    times = min(10, ceil(4 d / columns))        d: weights of one filter;  columns: over all calibration images

With fewer columns than weights the Gram matrix is singular, and a closed form fits the few images exactly and no
others. Such layers get their Gram matrix from variations of the images, each image `times` times. MobileNetV1's
classifier (d = 768) at 50 %, 400 images: divergence of the network on other images .0445, .0149 with eight variations
of each, .0187 with three; by magnitude .0256.

Source: Frantar & Alistarh 2022 (OBC takes ten variations of every image); which layers need them is our own design.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from secateur.cache import key_of
from secateur.errors import PosttrainingError
from secateur.posttraining.gathering import Batches, digest_of_images, gather_grams
from secateur.posttraining.geometry import columns_of
from secateur.posttraining.gram import Gram
from secateur.posttraining.stored_grams import joined
from secateur.posttraining.subject import Subject
from secateur.progress import say

ENOUGH, MOST_VARIATIONS = 4, 10


@dataclass(frozen=True)
class GramImages:
    """What Gram matrices are gathered from.

    batches    the calibration images, prepared, the same each time that it is called
    varied     number of times -> every image so often, each time varied otherwise, the same each time that it is
               called; None: there is nothing but the images
    varied_by  stands for how they are varied
    count      of the calibration images, for `varied`: they are not read to be counted
    """

    batches: Batches
    varied: Callable[[int], Batches] | None = None
    varied_by: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        if self.varied is not None and self.count < 1:
            raise PosttrainingError("variations of images need to know how many images there are.")


def gather_enough(
    subject: Subject,
    images: GramImages,
    names: Iterable[str],
    *,
    folder: Path | None = None,
    dense: Subject | None = None,
    seed: int = 0,
) -> Mapping[str, Gram]:
    """`gather_grams`, with variations of the images for layers that see too few columns; in the order of execution.

    raises    as `gather_grams`
    """
    wanted = list(names)
    times = {} if images.varied is None else times_for(subject, images, wanted)
    digest = None if folder is None else digest_of_images(images.batches)
    parts: list[Mapping[str, Gram]] = []
    for often in sorted({times.get(name, 1) for name in wanted} or {1}):
        some = [name for name in wanted if times.get(name, 1) == often]
        batches, known = images.batches, digest
        if often > 1 and images.varied is not None:
            say(f"every calibration image {often} times, varied, for {', '.join(some)}")
            batches = images.varied(often)
            known = digest and key_of(["varied", often, images.varied_by, digest])
        parts.append(gather_grams(subject, batches, some, folder=folder, dense=dense, seed=seed, images_digest=known))
    if len(parts) == 1:
        return parts[0]
    first = next(iter(images.batches()))
    return joined(parts, subject.order(first))


def times_for(subject: Subject, images: GramImages, names: Sequence[str]) -> dict[str, int]:
    """Layer -> how often every image is needed, where once is not enough; layers that are not reached are missing."""
    columns = dict[str, int]()
    first = next(iter(images.batches()), None)
    if first is not None:
        watch = {name: _Count(columns, name, subject) for name in names if subject.geometry(name).kind in _KINDS}
        subject.run(first[:1], watch, stop_early=True)
    times = dict[str, int]()
    for name, of_one in columns.items():
        width = math.prod(subject.layer(name).filter_shape[1:])
        often = min(MOST_VARIATIONS, math.ceil(ENOUGH * width / (of_one * images.count)))
        if often > 1:
            times[name] = often
    return times


# Of which there are Gram matrices.
_KINDS = ("conv", "depthwise", "linear")


class _Count:
    """Counts the columns that a layer gets from one image."""

    def __init__(self, counts: dict[str, int], name: str, subject: Subject) -> None:
        self._counts, self._name, self._geometry = counts, name, subject.geometry(name)

    def __call__(self, inputs: Tensor) -> None:
        columns = columns_of(inputs, self._geometry).shape[2]
        self._counts[self._name] = self._counts.get(self._name, 0) + columns
