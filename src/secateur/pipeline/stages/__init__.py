"""The stages of a recipe; importing this package registers them."""

from secateur.pipeline.stages import (
    benchmark,
    evaluate,
    export,
    posttraining,
    quantize,
    remove_branches,
    remove_channels,
    sparsify,
    thin,
    train,
)

__all__ = [
    "benchmark",
    "evaluate",
    "export",
    "posttraining",
    "quantize",
    "remove_branches",
    "remove_channels",
    "sparsify",
    "thin",
    "train",
]
