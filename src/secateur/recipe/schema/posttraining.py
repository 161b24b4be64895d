"""Reconstruction by gradient after training: unit after unit is fitted to the dense network, without labels."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from secateur.recipe.schema.base import Fraction, Positive, Section


class GradientReconstruction(Section):
    """Fit the kept weights, unit by unit, to what the original network computes (MSBench, AdaPrune)."""

    unit: Literal["independent", "layer", "block", "network"] = Field(
        default="block",
        description="what is fitted together: one layer; a layer with its norm and activation; what lies between two "
        "values through which everything flows; all",
    )
    steps: Annotated[int, Field(ge=0)] = Field(default=400, description="of Adam, for each unit; 0: the masks alone")
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.1
    relative: bool = Field(
        default=True, description="the rate is a share of the size of a layer's weights, not the step itself"
    )
    bias_learning_rate: Annotated[float, Field(ge=0.0)] | None = Field(
        default=None, description="of the biases, absolute; by default they keep their values"
    )
    decay: Literal["cosine", "constant"] = "cosine"
    stop_below: Annotated[float, Field(ge=0.0)] = Field(default=1e-5, description="a smaller loss ends the unit")
    inputs: Literal["sparse", "dense"] = Field(
        default="sparse", description="what a unit sees: the pruned prefix's values, or the dense network's"
    )
    mask: Literal["static", "every_step"] = Field(
        default="static", description="chosen once, or again by magnitude after every step"
    )
    batch_size: Positive = 64
    table: tuple[Fraction, ...] = Field(
        default=(), description="rising levels, each from the result of the one before; the teacher stays the original"
    )
    rounds: Positive | None = Field(
        default=None, description="AdaPrune: so many rounds of pruning and fitting everything together"
    )
    cache: Literal["device", "host"] = Field(default="host", description="where inputs and targets wait")
    memory_gib: Annotated[float, Field(gt=0.0)] = Field(default=4.0, description="for them; fewer images where it ends")

    @model_validator(mode="after")
    def _one_course(self) -> "GradientReconstruction":
        if any(later <= earlier for earlier, later in pairwise(self.table)):
            raise ValueError("the levels of a table must rise, because each begins with the network of the one before")
        if self.rounds and self.table:
            raise ValueError("rounds and table are two courses of the same stage; give one")
        if self.rounds and (self.mask == "every_step" or self.inputs == "dense"):
            raise ValueError("rounds fit the whole sparse network with masks that hold; leave mask and inputs out")
        return self
