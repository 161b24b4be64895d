"""Scores of whole filters, for everything that decides about channels.

score(filter) = mean, sum or maximum of the scores of its weights, as the criterion says
"""

from collections.abc import Iterator, Mapping
from zlib import crc32

import torch
from torch import Tensor, nn

from secateur.sparsity.layers import layers_of, weighted_modules
from secateur.sparsity.scoring import Scorer, Scoring
from secateur.sparsity.statistics import LayerStatistics


class FilterScores(Mapping[str, Tensor]):
    """Layer name -> (C_out,) scores of its filters, larger = keep; worked out when they are asked for.

    raises    SparsityError  when asked for a layer that the criterion cannot score, with its name
    """

    def __init__(
        self,
        model: nn.Module,
        scoring: Scoring,
        statistics: Mapping[str, LayerStatistics] | None = None,
        seed: int = 0,
    ) -> None:
        self._scorer = Scorer(model, scoring, statistics)
        self._layers = {layer.name: layer for layer in layers_of(model)}
        self._modules = weighted_modules(model)
        self._seed = seed
        # How plans call the criterion.
        self.__name__ = scoring.criterion

    def __getitem__(self, name: str) -> Tensor:
        layer = self._layers[name]
        generator = torch.Generator().manual_seed(crc32(f"{self._seed} {name}".encode()))
        scores = self._scorer.scores(layer, self._modules[name], generator).flatten(1).double()
        combine = self._scorer.scoring.rule.combine
        return scores.amax(1) if combine == "max" else scores.sum(1) if combine == "sum" else scores.mean(1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
