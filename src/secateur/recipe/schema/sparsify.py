"""Stages that remove weights and channels."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from secateur.recipe.schema.base import Fraction, Positive, Section
from secateur.recipe.schema.methods import Method
from secateur.recipe.schema.schedules import AgpEpochs, MaskRule, Schedule
from secateur.recipe.schema.search import ChannelSearch, LevelSearch
from secateur.recipe.schema.training import Distillation, Regression, Regularizer, Training

# Criteria of remove_channels that look at the layers which read a channel.
BY_READERS = ("lasso", "feature_maps")


class SparsifyPart(Section):
    """Which layers, in which pattern, how many zeros, chosen how and when."""

    layers: tuple[str, ...] = Field(default=(), description="names or globs of the layers; by default all")
    pattern: str = Field(default="1x4", description="unstructured, 1xN, 2:4, filter, ... (docs/vocabulary.md)")
    sparsity: Fraction | None = Field(
        default=None,
        description="fraction of zeros among the weights of `base`; by default 0.8, or what the pattern fixes",
    )
    base: Literal["conv_linear", "selected"] = Field(
        default="conv_linear", description="all convolution and linear weights, or only those of the layers pruned"
    )
    criterion: str = "magnitude"
    statistics_images: Positive = Field(default=512, description="images for criteria that look at data")
    fold_norm: bool = Field(default=False, description="score the weights times the scale of the norm that follows")
    noise: Fraction = Field(default=0.0, description="probability that all scores of a layer are multiplied by noise")
    allocation: str = "uniform"
    search: LevelSearch | None = Field(
        default=None, description="how allocation ddpg searches; by default as PocketFlow"
    )
    power: Annotated[float, Field(gt=0.0)] = Field(default=1.0, description="exponent of erk")
    tuning: Annotated[float, Field(ge=0.0, le=1.0)] = Field(default=0.5, description="decay of energy, over the depth")
    decay: Literal["linear", "geometric"] = Field(default="linear", description="form of the decay of energy")
    tolerance: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(default=0.002, description="of searched allocations")
    sensitivity: str | None = Field(default=None, description="sensitivity.json, for allocation sensitivity")
    bound: Annotated[float, Field(ge=0.0)] | None = Field(
        default=None, description="the most that one layer alone may cost, in place of a sparsity (sensitivity)"
    )
    hardware: str | None = Field(default=None, description="measured times of layers: prune only as far as they fall")
    cap: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=0.99, description="the most that one layer may lose")
    floor: Fraction = Field(default=0.0, description="the least density of a layer")
    level_max_factor: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="no level above the target times this"
    )
    density_min_factor: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="no density below that of the target times this"
    )
    levels: dict[str, Fraction] = Field(default_factory=dict, description="given levels of single layers, by glob")
    levels_file: str | None = Field(default=None, description="levels of all layers: one a line, or name: level")
    remainder: Literal["short", "dense"] = Field(default="short", description="filters beyond a multiple of N")
    rounding: Literal["floor", "ceil", "nearest", "complement", "percentile"] = "floor"
    ties: Literal["exact", "threshold"] = "exact"
    permute: bool = Field(default=False, description="reorder channels first, so that N:M removes less")
    rearrange: bool = Field(default=False, description="reorder filters first, so that blocks hold similar ones")
    rearrange_rule: Literal["balanced", "similar", "sorted"] = Field(
        default="balanced", description="what is similar: docs/patterns.md; sorted is 1xN's own"
    )
    include_first: bool = False
    include_depthwise: bool = False
    include_classifier: bool = False
    leader: str | None = Field(default=None, description="the layer whose groups all layers of the part lose too")
    exclude: tuple[str, ...] = Field(default=(), description="layer names or globs such as layer4.*")
    exclude_kinds: tuple[Literal["conv", "linear", "depthwise", "conv_transpose", "first", "last"], ...] = ()
    schedule: Schedule = Field(default_factory=AgpEpochs)
    mask: MaskRule = MaskRule()


class SparsifyStage(SparsifyPart):
    """Remove weights; with epochs, while the rest is trained.

    parts     several sets of layers, each with its own pattern, target and schedule, in one training; the keys of a
              part then stand there and not here
    groups    prune so many layers, train, prune the next ones, and so on; by default all at once
    """

    stage: Literal["sparsify"] = "sparsify"
    parts: tuple[SparsifyPart, ...] = ()
    groups: Positive | None = Field(default=None, description="layers of a group of group fine-tuning")
    method: Method | None = Field(default=None, description="a way of training that chooses the masks itself")
    regularize: tuple[Regularizer, ...] = ()
    regression: Regression | None = Field(
        default=None, description="fit the pruned layers one by one before they are trained; needs all zeros at once"
    )
    training: Training = Training()
    distillation: Distillation | None = None

    @model_validator(mode="after")
    def _parts_or_keys(self) -> "SparsifyStage":
        own = sorted(self.model_fields_set & set(SparsifyPart.model_fields))
        written = [name for name in own if getattr(self, name) != getattr(SparsifyPart(), name)]
        if self.parts and written:
            raise ValueError(f"'{written[0]}' stands beside parts; write it in each part")
        return self


class LevelsStage(SparsifyStage):
    """One training over a table of levels: for each a stage of training with the learning rate from its start, an
    evaluation, and an artifact of its own in levels/NN (MSBench's sparsity_table)."""

    stage: Literal["levels"] = "levels"  # type: ignore[assignment]
    table: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

    @model_validator(mode="after")
    def _levels_rise(self) -> "LevelsStage":
        if any(later <= earlier for earlier, later in zip(self.table, self.table[1:], strict=False)):
            raise ValueError("the levels of a table must rise, because each begins with the network of the one before")
        return self


class RemoveChannelsStage(Section):
    """Take whole channels out of the network: smaller tensors, and faster on every runtime."""

    stage: Literal["remove_channels"] = "remove_channels"
    target: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(default=0.5, description="fraction of `base` to remove")
    base: Literal["channels", "macs", "parameters"] = "macs"
    criterion: str = Field(
        default="l2", description="how filters are scored, or by their readers: lasso, feature_maps (docs/channels.md)"
    )
    statistics_images: Positive = 512
    solver: Literal["lars", "ista"] = Field(default="lars", description="of lasso")
    positions: Positive = Field(default=10, description="output positions of an image for lasso and feature_maps")
    refit: bool = Field(
        default=True, description="lasso, feature_maps: fit the layers that read less to their dense outputs"
    )
    scope: Literal["uniform", "global"] = Field(
        default="uniform", description="the same share of every group, or the lowest scores of the whole network"
    )
    normalize: Literal["none", "max", "mean", "norm"] = Field(
        default="mean", description="of scores, tensor by tensor, before they are summed over a group"
    )
    leader: bool = Field(default=False, description="the first layer of a group decides alone (Distiller)")
    ratios: dict[str, Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(
        default_factory=dict, description="given shares of single groups, by glob of a layer's name"
    )
    ratios_file: str | None = Field(
        default=None,
        description="of what each convolution reads: in order the shares that stay (PocketFlow's ratio.list), or "
        "name: share that goes",
    )
    exclude: tuple[str, ...] = ()
    round_to: Positive = Field(default=1, description="channels remain a multiple of this")
    min_channels: Positive = 1
    steps: Positive = Field(default=1, description="rounds of removing and training")
    search: ChannelSearch | None = Field(default=None, description="find the ratios by trying tables")
    training: Training = Training()
    distillation: Distillation | None = None

    @model_validator(mode="after")
    def _search_chooses_alone(self) -> "RemoveChannelsStage":
        others = {"base": "macs", "scope": "uniform", "ratios": {}, "ratios_file": None, "steps": 1}
        for key, value in others.items():
            if self.search is not None and getattr(self, key) != value:
                raise ValueError(f"search finds the ratios for {self.target:g} of the MACs, once; leave '{key}' out")
        return self

    @property
    def reconstructs(self) -> bool:
        """Whether channels are chosen by what the layers that read them give."""
        return self.criterion in BY_READERS

    @model_validator(mode="after")
    def _keys_of_the_criterion(self) -> "RemoveChannelsStage":
        plain = RemoveChannelsStage.model_fields
        wrong = ("scope", "normalize", "leader") if self.reconstructs else ("solver", "positions", "refit")
        for name in wrong:
            if getattr(self, name) != plain[name].default:
                raise ValueError(
                    f"'{name}' scores filters; criterion {self.criterion} looks at what is read, group by group"
                    if self.reconstructs
                    else f"'{name}' goes with criterion {' or '.join(BY_READERS)}, not with {self.criterion}"
                )
        return self


class RemoveBranchesStage(Section):
    """Take whole residual branches out of the network: of their blocks only the shortcut is left."""

    stage: Literal["remove_branches"] = "remove_branches"
    target: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(default=0.3, description="fraction of `base` to remove")
    base: Literal["macs", "parameters"] = "macs"
    images: Positive = Field(default=256, description="training images on which the choice is made, without labels")
    exclude: tuple[str, ...] = Field(default=(), description="blocks that stay, by name or glob")
    training: Training = Training()
    distillation: Distillation | None = None


class ThinStage(Section):
    """Take out the channels that are entirely zero, and the residual branches that add nothing."""

    stage: Literal["thin"] = "thin"
    shift: Literal["keep", "zero"] = Field(
        default="keep",
        description="a zero filter whose norm has a shift: keep the channel where the constant cannot be folded, or "
        "set the shift to zero",
    )
