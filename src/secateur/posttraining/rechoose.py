"""Masks that are chosen again while weights move: by magnitude, in each layer's own pattern and level.

Removed weights get no gradient and keep their values, so that one comes back when a kept one has become smaller.

Source: MSBench (its default mask).
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from secateur.errors import PosttrainingError
from secateur.sparsity import PlannedLayer, Scorer, Scoring, SparsityPlan, criteria, set_mask_
from secateur.sparsity.draws import generator_for
from secateur.sparsity.layers import weighted_modules


def mask_choosers(network: nn.Module, plans: Sequence[SparsityPlan], seed: int) -> dict[str, Callable[[], None]]:
    """Layer -> what chooses its mask again from the weights as they are, at the level of its plan.

    By the plan's criterion where that looks at weights alone, else by magnitude.
    raises    PosttrainingError  no plan
    """
    if not plans:
        raise PosttrainingError("masks that are chosen at every step need the plan: each layer's pattern and level.")
    modules = weighted_modules(network)
    found: dict[str, Callable[[], None]] = {}
    for plan in plans:
        blind = criteria[plan.criterion].needs or criteria[plan.criterion].drawn == "chance"
        scorer = Scorer(network, Scoring("magnitude" if blind else plan.criterion))
        for layer in plan.layers:
            if layer.level is not None:
                found[layer.name] = _chooser(scorer, modules[layer.name], layer, plan, seed)
    return found


def _chooser(
    scorer: Scorer, module: nn.Module, layer: PlannedLayer, plan: SparsityPlan, seed: int
) -> Callable[[], None]:
    def choose() -> None:
        generator = generator_for(seed, layer.name)
        level = layer.level or 0.0
        set_mask_(module, scorer.mask(layer, module, plan.pattern, level, generator, plan.rounding, plan.ties))

    return torch.no_grad()(choose)
