"""How a network is to be compiled."""

from collections.abc import Mapping
from dataclasses import dataclass

from secateur.engine.choose import ByPrediction
from secateur.engine.lowering.context import Chooser
from secateur.engine.target import Target
from secateur.engine.tune import ByTiming


@dataclass(frozen=True)
class Options:
    """How a network is compiled.

    threads      of one run
    primitive    auto, direct, gemm or pack, or a mapping from layers to these
    format       auto, or dense to ignore zeros
    tune         time the best candidates of every layer instead of trusting the prediction
    denormals    keep, or flush to compute with denormal numbers as zero
    """

    threads: int
    primitive: str | Mapping[str, str] = "auto"
    format: str = "auto"
    tune: bool = False
    denormals: str = "keep"

    def chooser(self, target: Target) -> Chooser:
        """What decides for each layer."""
        predicted = ByPrediction(target, self.primitive, self.format)
        return ByTiming(predicted, self.threads) if self.tune else predicted
