"""Channels of networks: which go together, and taking them out.

    plan = plan_channels(model, 0.5, base="macs")     a table to read, data to keep
    mask_channels_(model, plan)                       zeros: the network that the smaller one will compute
    remove_channels_(model, plan)                     smaller tensors: the same function, faster on every runtime

The same for ONNX files from any tool: plan_channels_onnx, thin_plan_onnx, remove_channels_onnx.

Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secateur.channels.branch_plan import BranchPlan
    from secateur.channels.branches import (
        Branch,
        drop_branches_,
        idle_branches,
        residual_branches,
        without_branches,
    )
    from secateur.channels.groups import ChannelGroup, ChannelGroups
    from secateur.channels.importance import group_scores
    from secateur.channels.mask import mask_channels_
    from secateur.channels.onnx_planning import plan_channels_onnx
    from secateur.channels.onnx_remove import remove_channels_onnx
    from secateur.channels.onnx_thin import thin_plan_onnx
    from secateur.channels.onnx_trace import groups_of_onnx
    from secateur.channels.order_plan import OrderPlan
    from secateur.channels.permute import permute_group_
    from secateur.channels.plan import RemovalPlan
    from secateur.channels.planning import plan_channels
    from secateur.channels.rearrange import permute_for_nm_, rearrange_for_blocks_, replay_orders_
    from secateur.channels.reconstruct import Reconstruction, reconstruct_channels, refit_
    from secateur.channels.remove import remove_channels_
    from secateur.channels.thin import thin_plan
    from secateur.channels.trace import channel_groups

# name -> file that has it
_LAZY = {
    "Branch": "branches",
    "BranchPlan": "branch_plan",
    "ChannelGroup": "groups",
    "ChannelGroups": "groups",
    "OrderPlan": "order_plan",
    "Reconstruction": "reconstruct",
    "RemovalPlan": "plan",
    "channel_groups": "trace",
    "drop_branches_": "branches",
    "group_scores": "importance",
    "groups_of_onnx": "onnx_trace",
    "idle_branches": "branches",
    "mask_channels_": "mask",
    "permute_for_nm_": "rearrange",
    "permute_group_": "permute",
    "plan_channels": "planning",
    "plan_channels_onnx": "onnx_planning",
    "rearrange_for_blocks_": "rearrange",
    "reconstruct_channels": "reconstruct",
    "refit_": "reconstruct",
    "remove_channels_": "remove",
    "remove_channels_onnx": "onnx_remove",
    "replay_orders_": "rearrange",
    "residual_branches": "branches",
    "thin_plan": "thin",
    "thin_plan_onnx": "onnx_thin",
    "without_branches": "branches",
}

__all__ = [
    "Branch",
    "BranchPlan",
    "ChannelGroup",
    "ChannelGroups",
    "OrderPlan",
    "Reconstruction",
    "RemovalPlan",
    "channel_groups",
    "drop_branches_",
    "group_scores",
    "groups_of_onnx",
    "idle_branches",
    "mask_channels_",
    "permute_for_nm_",
    "permute_group_",
    "plan_channels",
    "plan_channels_onnx",
    "rearrange_for_blocks_",
    "reconstruct_channels",
    "refit_",
    "remove_channels_",
    "remove_channels_onnx",
    "replay_orders_",
    "residual_branches",
    "thin_plan",
    "thin_plan_onnx",
    "without_branches",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'secateur.channels' has no attribute '{name}'")
    return getattr(importlib.import_module(f"secateur.channels.{_LAZY[name]}"), name)
