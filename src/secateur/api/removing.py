"""Channels out of a network: those that are computed for nothing, or those that matter least."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from secateur import channels, zoo
from secateur.api.targets import network_of, onnx_of, refuse_weights, trained_network
from secateur.errors import RecipeError
from secateur.export import export_onnx, folded_copy


def thin(
    target: str | Path | nn.Module, out: str | Path, *, input_size: Sequence[int] | None = None
) -> channels.RemovalPlan:
    """Write a network without the channels that it computes for nothing, and return what went; its function stays.

    target        an ONNX file from any tool, a run folder, or a torch network, which stays as it is
    out           the ONNX file to write
    input_size    (channels, height, width) where the target does not say its own
    raises        ModelError, SparsityError, ExportError
    """
    source = onnx_of(target)
    if source is not None:
        found = channels.thin_plan_onnx(source, input_size)
        channels.remove_channels_onnx(source, out, found, input_size=input_size)
        return found
    network = folded_copy(target if isinstance(target, nn.Module) else network_of(target))
    found = channels.thin_plan(network, input_size)
    return _removed(network, found, out, input_size)


def prune_channels(
    target: str | Path | nn.Module,
    out: str | Path,
    fraction: float = 0.5,
    *,
    plan: channels.RemovalPlan | None = None,
    input_size: Sequence[int] | None = None,
    weights: str | None = None,
    **options: Any,
) -> channels.RemovalPlan:
    """Write a network without its least important channels, and return what went. Training it again is up to you.

    target        an ONNX file from any tool, a run folder, a torch network, which stays as it is, or a name
    out           the ONNX file to write
    fraction      of `base` that goes
    plan          one that was made before, on this network or on the one that it was exported from; nothing is chosen
    weights       of a name: "pretrained", a file, or "none"; by default the library's own
    options       base (macs, parameters, channels), scope (uniform, global), criterion (l1, l2, ...), normalize,
                  consumers, leader, ratios, exclude, round_to, min_channels: see secateur.channels.plan_channels
    raises        ModelError, SparsityError, ExportError
    """
    if plan is not None and options:
        raise RecipeError(f"a plan says what goes; leave the option '{min(options)}' out.")
    source = onnx_of(target)
    if source is not None:
        refuse_weights(target, weights)
        found = plan or channels.plan_channels_onnx(source, fraction, input_size, **options)
        channels.remove_channels_onnx(source, out, found, input_size=input_size)
        return found
    network = folded_copy(target if isinstance(target, nn.Module) else trained_network(target, weights))
    found = plan or channels.plan_channels(network, fraction, input_size, **options)
    return _removed(network, found, out, input_size)


def _removed(
    network: nn.Module, plan: channels.RemovalPlan, out: str | Path, input_size: Sequence[int] | None
) -> channels.RemovalPlan:
    channels.remove_channels_(network, plan)
    export_onnx(network, out, input_size or zoo.preprocessing_of(network).input_size)
    return plan
