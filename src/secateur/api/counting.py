"""What a network consists of: weights, nonzeros, multiply-adds, and which structures are zero."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from secateur import graph, sparsity
from secateur.api.targets import network_of
from secateur.export import MODEL_FILE, WEIGHTS_FILE
from secateur.pipeline import is_rebuildable


def census(target: str | Path | nn.Module, *, input_size: Sequence[int] | None = None) -> graph.Census:
    """Weights, nonzeros and MACs per layer of a network, an ONNX file, a run folder or a zoo name.

    input_size    (channels, height, width) where the target does not say its own
    """
    if isinstance(target, str | Path):
        path = Path(target)
        if path.is_dir() and not is_rebuildable(path / WEIGHTS_FILE):
            path = path / MODEL_FILE
        if path.suffix == ".onnx":
            return graph.census_of_onnx(path, input_shape=input_size)
        target = network_of(target)
    return sparsity.census(target, input_size)


def structure(target: str | Path | nn.Module) -> graph.StructureTable:
    """How many filters, channels, kernels, rows and columns of every weight are entirely zero."""
    return sparsity.structure(network_of(target) if isinstance(target, str | Path) else target)
