"""How a network is to be compiled."""

from collections.abc import Mapping
from dataclasses import dataclass

from secateur.engine.choose import ByPrediction
from secateur.engine.emit.pairs import has_pair_dot
from secateur.engine.lowering.context import Chooser
from secateur.engine.target import Target
from secateur.engine.tune import ByTiming
from secateur.errors import EngineError

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Options:
    """How a network is compiled.

    threads      of one run
    primitive    auto, direct, gemm or pack, or a mapping from layers to these
    format       auto, or dense to ignore zeros
    tune         time the best candidates of every layer instead of trusting the prediction
    denormals    keep, or flush to compute with denormal numbers as zero
    precision    float32, or bf16: layers multiply numbers rounded to bf16, and sum them in float32
    """

    threads: int
    primitive: str | Mapping[str, str] = "auto"
    format: str = "auto"
    tune: bool = False
    denormals: str = "keep"
    precision: str = "float32"

    def chooser(self, target: Target) -> Chooser:
        """What decides for each layer."""
        predicted = ByPrediction(target, self.primitive, self.format)
        return ByTiming(predicted, self.threads) if self.tune else predicted


def check_precision(precision: str, target: Target) -> None:
    """Raise EngineError for a word that is no precision, and for one that a processor has no instruction for."""
    if precision not in PRECISIONS:
        raise EngineError(f"precision '{precision}' is unknown; it can be {', '.join(PRECISIONS)}.")
    if precision == "bf16" and not has_pair_dot(target):
        missing = "bf16" if target.isa == "neon" else "avx512_bf16"
        raise EngineError(
            f"precision='bf16' needs a processor that multiplies bf16 numbers (x86 with avx512_bf16, AArch64 with "
            f"bf16); here ({target.cpu}, compiled for {target.isa}) {missing} is missing. Use precision='float32', or "
            "quantize the network to int8."
        )
