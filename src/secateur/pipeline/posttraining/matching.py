"""Layers without a norm behind them: the mean and variance of their outputs as in the dense network, where that helps.

What zeros and least squares take from the variance of a layer adds up from layer to layer; batch norms are estimated
again, and ONNX files and networks without norms have nothing of the kind. Layers are matched in order of execution,
each with the inputs that the matched ones before it give. The network keeps that only if held-out images say that it
comes nearer to the dense one, by more than chance would have it. Nearer answers need not be better ones: SqueezeNet 1.1
with 60 % zeros had 63.5 % top-1 with it and 64.1 % without, so that it is done where it is asked for.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from secateur.pipeline.posttraining.judge import Judge
from secateur.pipeline.posttraining.time_box import TimeBox
from secateur.posttraining import Gram
from secateur.posttraining.losses import Divergence
from secateur.posttraining.match_statistics import match_statistics_
from secateur.posttraining.subject import Subject
from secateur.posttraining.thin import GramImages, gather_enough
from secateur.progress import say, track

# Of a time box, what may have been spent when the last layer is begun.
LATEST = 0.6


def match_outputs_(
    subject: Subject,
    dense: Subject,
    names: Iterable[str],
    images: GramImages,
    grams: Mapping[str, Gram],
    distance: Divergence,
    box: TimeBox,
    seed: int,
) -> bool:
    """Match the layers of `names`, in order of execution. returns whether the subject keeps that.

    grams       of the layers' inputs in the dense network
    distance    of the subject from the dense network on held-out images
    """
    order = list(names)
    if not order:
        return False
    kept = {name: (subject.weight(name), subject.bias(name)) for name in order}
    judge = Judge(distance)
    with track(len(order), "means and variances") as progress:
        for name in order:
            if box.budget is not None and box.spent > LATEST * box.budget:
                _restore_(subject, kept)
                say("posttraining: no time to match means and variances of outputs")
                return False
            fresh = gather_enough(subject, images, [name], seed=seed)
            if name in fresh:
                match_statistics_(subject, dense, grams, fresh)
            progress.advance(layer=name)
    verdict = judge.verdict()
    if not verdict.nearer:
        _restore_(subject, kept)
    say(f"posttraining: means and variances of {len(order)} layers without a norm, {verdict}")
    return verdict.nearer


def _restore_(subject: Subject, kept: Mapping[str, tuple[Tensor, Tensor | None]]) -> None:
    for name, (weight, bias) in kept.items():
        subject.store_(name, weight, torch.zeros(len(weight)) if bias is None else bias)
