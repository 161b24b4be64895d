"""The verbs of Secateur in Python; `import secateur` offers every one of them as `secateur.<verb>`.

    import secateur

    result = secateur.compress("resnet20_cifar10", "digits", pattern="1x4-fine", sparsity=0.8, out="run")
    print(result.record.folder / "report.html")

The command line calls these functions and nothing else.
"""

from secateur.api.counting import census, structure
from secateur.api.networks import evaluate, export_onnx, sensitivity
from secateur.api.pruning_weights import prune_weights
from secateur.api.quantizing import preview_quantize, quantize, quantize_
from secateur.api.recipes import Result, compress, plan, prepare
from secateur.api.removing import prune_channels, thin
from secateur.api.sparsifying import frontier, preview_sparsify, sparsify
from secateur.api.targets import network_of
from secateur.pipeline.options import Options
from secateur.report import write_report

__all__ = [
    "Options",
    "Result",
    "census",
    "compress",
    "evaluate",
    "export_onnx",
    "frontier",
    "network_of",
    "plan",
    "prepare",
    "preview_quantize",
    "preview_sparsify",
    "prune_channels",
    "prune_weights",
    "quantize",
    "quantize_",
    "sensitivity",
    "sparsify",
    "structure",
    "thin",
    "write_report",
]
