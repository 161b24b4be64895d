"""A float ONNX file as an 8-bit one, from a few hundred images: prepare, observe, choose scales, write, verify.

images = lambda: calibration.batches(preprocessing, 64)
quantized = quantize_model(read_model("model.onnx"), images)
onnx.save(quantized.model, "model_int8.onnx")
print(quantized.report)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import onnx

from secateur.quantization.calibrate import Batches, observe, table_of
from secateur.quantization.guard import guard
from secateur.quantization.numbers import ACTIVATIONS, WEIGHTS, Numbers
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import settled, write_qdq
from secateur.quantization.refine import Refined, Refinements, refine_network, refine_weights
from secateur.quantization.seen import Statistics
from secateur.quantization.settings import Override, Settings, chooser
from secateur.quantization.statistics import seen_of
from secateur.quantization.suspects import find_suspects
from secateur.quantization.table import ScaleTable
from secateur.quantization.verify import Verification, verify


@dataclass(frozen=True)
class QuantizationOptions:
    """How a file is quantized. The defaults were chosen by measurement (docs/quantization.md).

    observer            which observer chooses ranges of activations, and its own options
    activations         the integers of activations
    weights             the integers of weights; restricted symmetric ones are what every integer kernel takes
    per_channel         weights have a step for every output channel
    share_concat        what is concatenated has one scale
    reduce_range        weights have one bit less: for processors without VNNI, whose 16-bit sums overflow
    keep_float          layers that stay float: globs of node names, kinds, `first`, `last`
    overrides           what is different for some layers
    packed              weights of 4 bits and fewer lie two in a byte
    refinements         equalisation, rounding, bias correction, the collapse guard; by default biases are corrected,
                        which gives MobileNetV1 back the 5 points that rounded weights of depthwise layers cost it
    """

    observer: str = "mse"
    observer_options: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    activations: Numbers = ACTIVATIONS
    weights: Numbers = WEIGHTS
    per_channel: bool = True
    share_concat: bool = True
    reduce_range: bool = False
    keep_float: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    packed: bool = False
    refinements: Refinements = field(default_factory=lambda: Refinements(correct_biases=True))

    @property
    def settings(self) -> Settings:
        """What all layers have that no override names."""
        weights = replace(self.weights, bits=self.weights.bits - 1) if self.reduce_range else self.weights
        return Settings(self.observer, self.observer_options, self.activations, weights, self.per_channel)


@dataclass(frozen=True)
class Quantized:
    """A quantized file, and what it was made from.

    model          with QuantizeLinear and DequantizeLinear
    float_model    the prepared float file, whose names the table has
    table          the scales
    report         how far the two are apart
    statistics     value -> what the images showed of it
    source         float_model with weights and biases as the refinements left them; `model` is written from it
    refined        what the refinements did
    """

    model: onnx.ModelProto
    float_model: onnx.ModelProto
    table: ScaleTable
    report: Verification
    statistics: Mapping[str, Statistics]
    source: onnx.ModelProto
    refined: Refined


def quantize_model(
    model: onnx.ModelProto,
    batches: Batches,
    options: QuantizationOptions | None = None,
    *,
    statistics: Mapping[str, Statistics] | None = None,
) -> Quantized:
    """The quantized form of a float model, calibrated and verified on the same images.

    batches       called for every pass over the images: float32 (images, channels, height, width), prepared for the
                  network, or pairs of them and labels
    statistics    saved ones; the images are then only verified with
    raises        ModelError, QuantizationError, DataError;  ArtifactError  statistics that lack a value
    """
    options = options or QuantizationOptions()
    plain, done = refine_network(prepared(model), batches, options.refinements)
    points = points_of(plain, keep_float=options.keep_float, share_concat=options.share_concat)
    settings = chooser(plain, options.settings, options.overrides)
    seen = observe(plain, batches, points) if statistics is None else seen_of(points, statistics)
    table = settled(plain, table_of(plain, points, seen, settings))
    facts = {name: each.statistics() for group, each in zip(points.groups, seen, strict=True) for name in group.values}
    source, table, done = refine_weights(plain, table, batches, options.refinements, done)
    if options.refinements.guard is not None:
        guarded = guard(
            plain,
            table,
            batches,
            source=source,
            bound=options.refinements.guard,
            suspects=find_suspects(model, per_channel=options.per_channel, statistics=facts),
        )
        source, table, done = guarded.source, guarded.table, replace(done, guarded=guarded)
    quantized = write_qdq(source, table, packed=options.packed)
    return Quantized(quantized, plain, table, verify(plain, quantized, batches), facts, source, done)
