"""Networks that have lost channels: what was taken out travels with them, so that they can be built again."""

import json
from typing import Any

from torch import nn

from secateur.channels import RemovalPlan, remove_channels_
from secateur.errors import ArtifactError, SecateurError

# The attribute of a network that lists its removals, as `zoo_options` says how it was built.
ATTRIBUTE = "removed_channels"


def note_removal_(network: nn.Module, plan: RemovalPlan) -> None:
    """Remember on the network that `plan` was carried out on it."""
    done: list[dict[str, Any]] = getattr(network, ATTRIBUTE, [])
    setattr(network, ATTRIBUTE, [*done, plan.to_dict()])


def removals_text(network: nn.Module) -> str | None:
    """All removals as JSON; None for a network with all its channels."""
    done = getattr(network, ATTRIBUTE, [])
    return json.dumps(done) if done else None


def replay_removals_(network: nn.Module, plans: Any) -> None:
    """Take out of a fresh network what was taken out of another one; `plans` as in the result of a stage.

    raises    ArtifactError  these are no removal plans, or plans of another network
    """
    if not isinstance(plans, list):
        raise ArtifactError("the removed channels are not a list of plans.")
    for value in plans:
        plan = RemovalPlan.from_dict(value)
        try:
            remove_channels_(network, plan)
        except SecateurError as error:
            raise ArtifactError(f"the removed channels belong to another network: {error}") from error
        note_removal_(network, plan)
