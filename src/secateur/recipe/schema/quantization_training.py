"""How a network is trained with the numbers that it will have (quantization-aware training)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from secateur.recipe.schema.base import Section

Bits = Annotated[int, Field(ge=1, le=8)]
Mode = Literal["sym", "sym_full", "asym_u", "asym_s"]


class LayerBits(Section):
    """Bits of one layer; a key that is left out keeps the bits of the others, null keeps the layer or value float."""

    weights: Bits | None = None
    activations: Bits | None = None


class QuantizationTraining(Section):
    """Train with rounded weights and activations; gradients pass the rounding (quantization-aware training).

    affine          ranges of weights by their extremes, of activations by a moving average of theirs
    range_linear    the same as in Distiller: its average starts at the first batch without weight on it
    tensorflow      the same as in TensorFlow's training rewriter: whole tensors, asymmetric weights (which integer
                    kernels do not take, unless weight_mode is sym)
    lsq             the steps of both are learned
    pact            activations behind ReLU are clipped where it is learned; weights as in dorefa
    dorefa          weights through tanh, activations behind ReLU clipped to 0..1
    wrpn            weights clipped to -1..1, activations behind ReLU to 0..1
    uniform         weights between the extremes of a bucket (PocketFlow)
    codebook        weights are the 2^bits centres nearest to them (PocketFlow)
    """

    scheme: str = Field(
        default="affine", description="affine, range_linear, tensorflow, lsq, pact, dorefa, wrpn, uniform, codebook"
    )
    weight_bits: Bits = Field(default=8, description="1 is for dorefa and pact alone")
    activation_bits: Annotated[int, Field(ge=2, le=8)] | None = Field(
        default=8, description="null: activations stay float"
    )
    overrides: dict[str, LayerBits] = Field(
        default_factory=dict, description="glob of layers -> their bits; the first that matches counts"
    )
    keep_float: tuple[str, ...] = Field(default=(), description="names or globs of layers that are not quantized")
    include_first: bool = Field(default=True, description="the weights of the first layer are quantized too")
    include_classifier: bool = Field(default=True, description="the weights of the last layer are quantized too")
    weight_mode: Mode | None = Field(
        default=None, description="sym, or what the scheme fixes; asym_u and asym_s have a zero point of their own"
    )
    activation_mode: Mode = Field(default="asym_u", description="of the affine schemes and lsq")
    per_channel: bool | None = Field(
        default=None, description="a range for each output channel; by default of affine and lsq only"
    )
    fold_norms: bool = Field(
        default=True, description="what is rounded are the weights times the scale of the norm behind them, as exported"
    )
    decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="of the moving average of ranges; by default .99, .999 as the imported schemes"
    )
    quant_delay: Annotated[int, Field(ge=0)] = Field(default=0, description="steps before anything is rounded")
    freeze_bn_delay: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="steps after which the statistics of norms stay as they are; by default 80 % of all"
    )
    clip: Annotated[float, Field(gt=0.0)] = Field(default=8.0, description="where the learned clip of pact starts")
    clip_decay: Annotated[float, Field(ge=0.0)] = Field(default=1e-4, description="weight decay of it alone")
    bucket: Literal["layer", "channel", "split"] = Field(
        default="layer", description="of uniform and codebook: what has extremes or centres of its own"
    )
    bucket_size: Annotated[int, Field(ge=2)] = Field(default=256, description="weights in a bucket of `split`")
    centres: Literal["quantile", "uniform"] = Field(default="quantile", description="where those of codebook start")
    trained: Literal["weights", "centres", "both"] = Field(default="weights", description="by codebook")

    @model_validator(mode="after")
    def _one_bit_is_for_dorefa(self) -> "QuantizationTraining":
        weights = [self.weight_bits, *(bits.weights for bits in self.overrides.values())]
        activations = [bits.activations for bits in self.overrides.values()]
        if (1 in weights and self.scheme not in ("dorefa", "pact")) or 1 in activations:
            raise ValueError("one bit is for the weights of dorefa and pact alone; everything else has 2 to 8")
        return self
