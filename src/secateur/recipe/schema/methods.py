"""Ways of training that choose the masks themselves."""

from typing import Annotated, Literal

from pydantic import Field

from secateur.recipe.schema.base import Fraction, Section


class ProbMask(Section):
    """A probability for every weight, learned; the network samples its mask (ProbMask)."""

    kind: Literal["probmask"] = "probmask"
    start: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    end: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    initial: Fraction = 0.0
    score_init: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    score_learning_rate: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="by default 6e-3 as published, or what lets scores change their mind in a short run"
    )
    tau: Annotated[float, Field(gt=0.0)] = 0.03


class Str(Section):
    """A threshold for every layer, learned through soft thresholding (STR)."""

    kind: Literal["str"] = "str"
    threshold_init: float = -5.0
    strength: Annotated[float, Field(ge=0.0)] = Field(
        default=1.0, description="how firmly the learned thresholds are pulled to the target sparsity"
    )


class Admm(Section):
    """Weights are pulled to their projection onto the pattern, then cut (ADMM)."""

    kind: Literal["admm"] = "admm"
    rho: Annotated[float, Field(gt=0.0)] = 1e-3
    share: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(default=1 / 3, description="of the epochs, before the cut")


Method = Annotated[ProbMask | Str | Admm, Field(discriminator="kind")]
