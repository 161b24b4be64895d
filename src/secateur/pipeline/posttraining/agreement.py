"""How far a sparse network's answers are from the dense one's: what can be told of a network without labels.

divergence    mean over images of KL(dense || sparse), in nats
same class    share of the images whose largest logit is the same one
"""

import math
from dataclasses import dataclass

import torch

from secateur.errors import PosttrainingError
from secateur.posttraining.losses import Batches
from secateur.posttraining.subject import Subject


@dataclass(frozen=True)
class Agreement:
    """Of `images` images that nothing was fitted to.

    divergence    in nats
    same_class    percent
    """

    divergence: float
    same_class: float
    images: int

    def __str__(self) -> str:
        return (
            f"KL distance to the dense network {self.divergence:.4g}, same class for {self.same_class:.2f} % "
            f"of {self.images} held-out images"
        )


def agreement_of(subject: Subject, dense: Subject, batches: Batches) -> Agreement:
    """Compare two networks on the same images, at least one.

    raises    PosttrainingError  answers that are no numbers
    """
    divergence, same, count = 0.0, 0, 0
    for images in batches():
        own, other = (network.run(images).double().cpu() for network in (subject, dense))
        wanted = torch.log_softmax(other, dim=1)
        divergence += float((wanted.exp() * (wanted - torch.log_softmax(own, dim=1))).sum())
        same += int((own.argmax(dim=1) == other.argmax(dim=1)).sum())
        count += len(images)
    if not math.isfinite(divergence):
        raise PosttrainingError("the answers of the network are no finite numbers on the held-out images.")
    return Agreement(max(divergence / count, 0.0), 100.0 * same / count, count)
