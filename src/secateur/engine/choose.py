"""The choice for each layer by prediction, and the rule that no layer is slower than dense.

1. All candidates are predicted; the cheapest wins.
2. A sparse one must promise to beat the best dense one by the margin, or the layer stays dense, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from secateur.engine.choice import Choice
from secateur.engine.cost import candidates, predict
from secateur.engine.lowering.context import Decision
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.target import Target
from secateur.engine.weights.pattern import Pattern
from secateur.errors import EngineError

MARGIN = 0.05
PRIMITIVES = ("auto", "direct", "gemm", "pack")


@dataclass(frozen=True)
class ByPrediction:
    """Chooser that asks the cost model.

    primitive    auto, direct, gemm or pack; or a mapping from layers to these, others being auto
    format       auto, or "dense" to ignore all zeros
    """

    target: Target
    primitive: str | Mapping[str, str] = "auto"
    format: str = "auto"

    def __call__(self, layer: str, shape: ConvShape, weight: np.ndarray, pattern: Pattern) -> Decision:
        """The decision for one layer."""
        ranked = self.ranked(layer, shape, pattern)
        return keep_or_dense(ranked, pattern)

    def ranked(self, layer: str, shape: ConvShape, pattern: Pattern) -> list[tuple[Choice, float]]:
        """Candidates with predicted cycles, cheapest first."""
        wanted = primitive_of(self.primitive, layer)
        found = candidates(shape, pattern, self.target, wanted)
        if not found:  # a pointwise layer has no im2col matrix: its input is one
            found = candidates(shape, pattern, self.target, "direct")
        if self.format == "dense":
            found = [choice for choice in found if choice.format == "dense"]
        scored = [(choice, predict(choice, shape, pattern, self.target)) for choice in found]
        return sorted(scored, key=lambda pair: pair[1])


def check_primitive(primitive: str | Mapping[str, str]) -> None:
    """Raise EngineError for a word that is no primitive."""
    for wanted in (primitive,) if isinstance(primitive, str) else primitive.values():
        if wanted not in PRIMITIVES:
            raise EngineError(f"primitive '{wanted}' is unknown; it can be {', '.join(PRIMITIVES)}.")


def primitive_of(primitive: str | Mapping[str, str], layer: str) -> str:
    """The primitive asked for one layer."""
    return primitive if isinstance(primitive, str) else primitive.get(layer, "auto")


def keep_or_dense(ranked: list[tuple[Choice, float]], pattern: Pattern) -> Decision:
    """The cheapest choice, or the best dense one with the reason where that is not clearly slower."""
    best, cost = ranked[0]
    dense = next(((choice, price) for choice, price in ranked if choice.format == "dense"), None)
    if best.format != "dense" and (dense is None or cost < (1 - MARGIN) * dense[1]):
        return Decision(best)
    assert dense is not None
    sparse = min((price for choice, price in ranked if choice.format != "dense"), default=None)
    if sparse is None:
        return Decision(dense[0])
    zeros, gain = (pattern.single or pattern).sparsity, dense[1] / sparse - 1
    reason = f"{100 * zeros:.0f} % zeros would gain {100 * gain:.0f} %: less than the noise"
    return Decision(dense[0], reason)
