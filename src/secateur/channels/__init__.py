"""Channels of networks: which go together, and taking them out.

    plan = plan_channels(model, 0.5, base="macs")     a table to read, data to keep
    mask_channels_(model, plan)                       zeros: the network that the smaller one will compute
    remove_channels_(model, plan)                     smaller tensors: the same function, faster on every runtime

Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secateur.channels.groups import ChannelGroup, ChannelGroups
    from secateur.channels.importance import group_scores
    from secateur.channels.mask import mask_channels_
    from secateur.channels.permute import permute_group_
    from secateur.channels.plan import RemovalPlan
    from secateur.channels.planning import plan_channels
    from secateur.channels.remove import remove_channels_
    from secateur.channels.thin import thin_plan
    from secateur.channels.trace import channel_groups

# name -> file that has it
_LAZY = {
    "ChannelGroup": "groups",
    "ChannelGroups": "groups",
    "RemovalPlan": "plan",
    "channel_groups": "trace",
    "group_scores": "importance",
    "mask_channels_": "mask",
    "permute_group_": "permute",
    "plan_channels": "planning",
    "remove_channels_": "remove",
    "thin_plan": "thin",
}

__all__ = [
    "ChannelGroup",
    "ChannelGroups",
    "RemovalPlan",
    "channel_groups",
    "group_scores",
    "mask_channels_",
    "permute_group_",
    "plan_channels",
    "remove_channels_",
    "thin_plan",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'secateur.channels' has no attribute '{name}'")
    return getattr(importlib.import_module(f"secateur.channels.{_LAZY[name]}"), name)
