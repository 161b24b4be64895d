"""Searches: how tables of levels or of widths are tried, learned from and judged."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from secateur.recipe.schema.base import Positive, Section
from secateur.recipe.schema.training import Regression


class Search(Section):
    """Roll-outs: each decides layer by layer, is judged once, and is learned from (PocketFlow's DDPG)."""

    learner: Literal["ddpg", "random"] = "ddpg"
    rollouts: Positive = Field(default=200, description="tables that are tried")
    warmup: Positive = Field(default=50, description="roll-outs before ddpg learns; as many fit into its memory")
    noise: Literal["parameters", "adaptive", "actions"] = Field(
        default="parameters", description="how ddpg explores; adaptive holds the distance of the actions"
    )
    metric: Literal["top1", "top5"] = "top1"
    iterations: Annotated[int, Field(ge=0)] = Field(default=400, description="steps of Adam before a table is judged")
    learning_rate: Annotated[float, Field(gt=0.0)] = 3e-4
    batch_size: Positive = 128
    images: Positive = Field(
        default=2500, description="training images that judge, and are not trained on meanwhile; a fifth at most"
    )

    @model_validator(mode="after")
    def _learns_at_all(self) -> "Search":
        if self.learner == "ddpg" and self.warmup >= self.rollouts:
            raise ValueError(f"ddpg learns after {self.warmup} roll-outs of {self.rollouts}; lower warmup")
        return self


class LevelSearch(Search):
    """A search for the level of every layer.

    single    reward = accuracy; the total stays at the target or above
    multi     reward = accuracy * ln(1 + sparsity); the total is free
    """

    reward: Literal["single", "multi"] = "single"
    regression: Regression = Field(default=Regression(), description="before the steps of Adam")


class ChannelSearch(Search):
    """A search for the share of channels that every group keeps.

    accuracy    reward = accuracy; the MACs stay at the target or below
    flops       reward = -max(tolerance, 1 - accuracy) * ln(FLOPs); the MACs are free
    """

    reward: Literal["accuracy", "flops"] = "accuracy"
    tolerance: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(default=0.15, description="an error that costs nothing")
