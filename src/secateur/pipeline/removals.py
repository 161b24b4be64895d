"""Networks that have lost channels or branches: what was taken out travels with them, to build them again."""

import json
from typing import Any

from torch import nn

from secateur.channels import BranchPlan, RemovalPlan, remove_channels_
from secateur.errors import ArtifactError, SecateurError

# The attribute of a network that lists its removals, as `zoo_options` says how it was built.
ATTRIBUTE = "removed_channels"


def note_removal_(network: nn.Module, plan: RemovalPlan | BranchPlan) -> None:
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
        raise ArtifactError("what was removed is not a list of plans.")
    for value in plans:
        of_branches = isinstance(value, dict) and "branches" in value
        plan = BranchPlan.from_dict(value) if of_branches else RemovalPlan.from_dict(value)
        try:
            if isinstance(plan, BranchPlan):
                plan.apply_(network)
            else:
                remove_channels_(network, plan)
        except SecateurError as error:
            raise ArtifactError(f"what was removed belongs to another network: {error}") from error
        note_removal_(network, plan)
