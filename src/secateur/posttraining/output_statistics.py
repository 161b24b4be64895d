"""Mean and variance of a layer's outputs, from its weights and the Gram matrix of its inputs.

    mean_o = w_o m + b_o        var_o = w_o (A - m m^T) w_o^T

A = mean of x x^T, m = mean of x, over the columns of the unfolded input of the group that filter o belongs to.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from secateur.errors import PosttrainingError
from secateur.posttraining.gathering import LIMIT, gather_grams
from secateur.posttraining.gram import Gram
from secateur.posttraining.subject import Subject


def by_group(weight: Tensor, gram: Gram, name: str = "the layer") -> Tensor:
    """(groups, filters of a group, d) float64, where the Gram is. raises PosttrainingError for another layer's Gram."""
    if weight.shape[0] % gram.groups or weight[0].numel() != gram.d:
        raise PosttrainingError(
            f"{name}: a Gram of {gram.groups} groups and {gram.d} inputs is not that of a weight of shape "
            f"{tuple(weight.shape)}."
        )
    return weight.to(gram.matrix.device, torch.float64).reshape(gram.groups, -1, gram.d)


def output_mean(weight: Tensor, gram: Gram, name: str = "the layer") -> Tensor:
    """(C_out,) float64: W m, without the bias."""
    return (by_group(weight, gram, name) @ gram.mean[:, :, None]).flatten()


def output_variance(weight: Tensor, gram: Gram, name: str = "the layer") -> Tensor:
    """(C_out,) float64, never below 0."""
    rows = by_group(weight, gram, name)
    return ((rows @ gram.centered().matrix) * rows).sum(2).flatten().clamp(min=0.0)


def bias_or_zero(subject: Subject, name: str, like: Tensor) -> Tensor:
    """The layer's bias in the place and type of `like`; zeros where it has none."""
    bias = subject.bias(name)
    return torch.zeros_like(like) if bias is None else bias.to(like)


class FreshGrams(Mapping[str, Gram]):
    """Layer name -> Gram of what the layer gets at the moment of asking: for corrections in order of execution.

    Each look-up runs the images through the network up to the layer; `names` should be in order of execution, and are
    when they come from `Subject.order`.
    """

    def __init__(
        self,
        subject: Subject,
        batches: Callable[[], Iterable[Tensor]],
        names: Iterable[str],
        *,
        limit: int | None = LIMIT,
        seed: int = 0,
    ) -> None:
        self._subject, self._batches, self._names = subject, batches, tuple(names)
        self._limit, self._seed = limit, seed

    def __getitem__(self, name: str) -> Gram:
        if name not in self._names:
            raise KeyError(name)
        return gather_grams(self._subject, self._batches, [name], limit=self._limit, seed=self._seed)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
