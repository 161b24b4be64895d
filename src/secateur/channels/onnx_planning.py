"""From an ONNX file to a removal plan: groups, scores of its weights, selection."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from secateur.channels.importance import FilterCriterion, Normalize, filter_criterion, scores_of
from secateur.channels.onnx_network import read_network
from secateur.channels.onnx_quantized import refuse_quantized
from secateur.channels.onnx_remains import with_remains
from secateur.channels.onnx_trace import trace_onnx
from secateur.channels.plan import RemovalPlan
from secateur.channels.planning import plan_by_scores
from secateur.channels.selection import Base, Scope


def plan_channels_onnx(
    source: Path | str | onnx.ModelProto,
    target: float,
    input_size: Sequence[int] | None = None,
    *,
    base: Base = "macs",
    scope: Scope = "uniform",
    criterion: str | FilterCriterion = "l2",
    normalize: Normalize = "mean",
    consumers: bool = False,
    leader: bool = False,
    ratios: Mapping[str, float] | None = None,
    exclude: Iterable[str] = (),
    round_to: int = 1,
    min_channels: int | None = None,
) -> RemovalPlan:
    """Which channels of an ONNX file go so that a fraction `target` of `base` is gone; the file stays as it is.

    The options are those of plan_channels, for the file's own weights: a batch norm that is folded into a convolution
    counts with it. Layers are called as their weights, without the last part of the name. Criteria that need data or
    norms are for torch networks.

    input_size    (channels, height, width) of the first input, where the file leaves sides open
    raises        ModelError     a damaged file
                  SparsityError  a glob that matches nothing, a target out of reach, weights that are integers
    """
    network = read_network(source, input_size)
    trace = trace_onnx(network)
    groups = trace.ids.groups()
    if target > 0:
        refuse_quantized(network, groups, base)
    weights = {name: network.graph.constants[name] for name in network.stored}
    tensors = {name: [torch.from_numpy(array.astype(np.float32))] for name, array in weights.items()}
    rule = filter_criterion(criterion) if isinstance(criterion, str) else criterion
    scores = scores_of(tensors, groups, rule, normalize=normalize, consumers=consumers, leader=leader)
    return plan_by_scores(
        groups,
        scores,
        target,
        criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "a function"),
        lambda removed: with_remains(trace, groups, removed),
        base=base,
        scope=scope,
        ratios=ratios,
        exclude=exclude,
        round_to=round_to,
        min_channels=min_channels,
    )
