"""Scores of whole filters, for everything that decides about channels.

score(filter) = mean, sum or maximum of the scores of its weights, as the criterion says
"""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from secateur.sparsity.draws import generator_for
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
        generator = generator_for(self._seed, name)
        return self._scorer.scoring.rule.filter_scores(self._scorer.scores(layer, self._modules[name], generator))

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
