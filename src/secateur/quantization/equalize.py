"""Cross-layer equalisation: the channels of a layer get ranges as alike as the layers around it allow.

    pair     s = sqrt(r1 / r2)                      W1 <- W1 / s, b1 <- b1 / s, W2 <- W2 s         ranges sqrt(r1 r2)
    triple   s12 = r1 / t, s23 = t / r3             t = cube root of r1 r2 r3, the middle layer depthwise
             W1 <- W1 / s12, W2 <- W2 s12 / s23, W3 <- W3 s23, b1 <- b1 / s12, b2 <- b2 / s23     ranges t

r is the largest magnitude of a channel's weights: r1 of what makes it, r2 and r3 of what reads it. Repeated until no
factor moves; the network computes what it did. A channel that is nearly zero on either side has no say: it gets the
mean factor of the others at last, or one at which it is not the largest on either side (our own).

With calibration images the numbers that a channel reaches count like its weights: r1 = max(r1, reach R / A), where R
and A are the largest range and the largest reach of the layer. Otherwise a channel of small weights and a high bias
would be stretched until it alone fills the range that its layer's outputs share. Layers are then taken in pairs. That
is our own.

ReLU6 does not commute with scales. Layers around one are left alone (`keep`), or its bound becomes one per channel,
6 / s (`clip`), or it becomes ReLU (`replace`), if the answers on calibration images stay the same.

Source: Nagel et al. 2019 (data-free quantization), section 4.1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.errors import QuantizationError
from secateur.graph.shapes import infer_shapes
from secateur.graph.table import text_table
from secateur.posttraining.onnx_layers import OnnxLayers
from secateur.quantization.answers import logits_of, top1_agreement
from secateur.quantization.couples import Couple, channel_ranges, find_couples, scale_inputs
from secateur.quantization.relu6 import bound_channels_, with_relu
from secateur.quantization.runs import Runs, images_of, in_groups
from secateur.quantization.subjects import Batches, copy_of, size_of
from secateur.registry import unknown

Relu6 = Literal["keep", "clip", "replace"]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROUNDS = 200
# Factors nearer to 1 than that move nothing any more.
CONVERGED = 1e-3
# A range below this share of the layer's largest is that of a dead channel.
DEAD = 1e-5


@dataclass(frozen=True)
class Equalized:
    """A model whose weights are equalised; prints as a table.

    model      computes the same function
    scales     layer -> (channels,) what its outputs were divided by
    spreads    layer -> (before, after): largest range of an output channel over the smallest that is not dead
    blocked    layer -> why its outputs were not scaled
    relu6      what became of ReLU6: keep, clip or replace
    rounds     until nothing moved
    """

    model: onnx.ModelProto
    scales: Mapping[str, Doubles]
    spreads: Mapping[str, tuple[float, float]]
    blocked: Mapping[str, str]
    relu6: Relu6
    rounds: int

    def __str__(self) -> str:
        rows = [(name, f"{before:.3g}", f"{after:.3g}", "") for name, (before, after) in self.spreads.items()]
        rows += [(name, "", "", f"left alone: {reason}") for name, reason in self.blocked.items()]
        table = text_table(("layer", "range ratio", "after", "note"), rows)
        return f"{table}\n{len(self.scales)} layers equalised in {self.rounds} rounds"


def pair_scale(r1: Doubles, r2: Doubles, dead: Flags | None = None) -> Doubles:
    """(channels,) s; 1 for dead channels, by default those with a range of zero."""
    alive = (r1 > 0) & (r2 > 0) if dead is None else ~dead
    return np.where(alive, np.sqrt(np.where(alive, r1, 1.0) / np.where(alive, r2, 1.0)), 1.0)


def triple_scales(r1: Doubles, r2: Doubles, r3: Doubles, dead: Flags | None = None) -> tuple[Doubles, Doubles]:
    """(channels,) s12 and s23; 1 for dead channels, by default those with a range of zero."""
    alive = (r1 > 0) & (r2 > 0) & (r3 > 0) if dead is None else ~dead
    a, b, c = (np.where(alive, r, 1.0) for r in (r1, r2, r3))
    # Roots first: the product of three small ranges may be no number.
    mean = np.cbrt(a) * np.cbrt(b) * np.cbrt(c)
    return a / mean, mean / c


def equalize(
    model: onnx.ModelProto,
    *,
    relu6: Relu6 = "keep",
    batches: Batches | None = None,
    agreement: float = 0.99,
    input_shape: tuple[int, int, int] | None = None,
    rounds: int = ROUNDS,
) -> Equalized:
    """The model with equalised weights; the given one is not changed.

    relu6          replace falls back to clip where the answers change on more images than allowed
    batches        calibration images: what channels reach is then part of their range; needed to replace ReLU6
    agreement      share of the images whose largest logit must stay the same when ReLU6 is replaced
    input_shape    (channels, height, width) where neither file nor images say it
    raises         QuantizationError;  ModelError  a damaged file
    """
    if relu6 not in get_args(Relu6):
        raise QuantizationError(unknown("treatment of ReLU6", relu6, get_args(Relu6)))
    if relu6 == "replace" and batches is None:
        raise QuantizationError("ReLU6 is replaced only after a look at calibration images; give some, or use 'clip'.")
    size = input_shape or (None if batches is None else size_of(batches))
    work = _Work(copy_of(model), size)
    if relu6 == "replace" and batches is not None:
        clips = {clip for couple in work.couples for clip in couple.clips}
        replaced = with_relu(model, clips)
        if clips and top1_agreement(logits_of(model, batches), logits_of(replaced, batches)) >= agreement:
            work = _Work(replaced, size)
        else:
            relu6 = "clip"
    if relu6 == "keep":
        work.couples = [couple for couple in work.couples if not couple.clips]
    if batches is not None:
        work.watch(batches)
    done = work.equalize_(rounds)
    return Equalized(work.model, work.scales, work.spreads(), work.blocked, relu6, done)


@dataclass
class _Work:
    """The weights of a model while they are scaled."""

    model: onnx.ModelProto
    size: Sequence[int] | None
    couples: list[Couple] = field(init=False)
    blocked: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        shapes = infer_shapes(self.model, self.size)
        self.layers = OnnxLayers(self.model, shapes)
        found = find_couples(self.model, self.layers, shapes)
        self.couples, self._blocked = list(found.couples), dict(found.blocked)
        self.weights = {name: self.layers.weight(name).astype(np.float64) for name in self.layers.layers}
        self.before = {name: _ranges(weight) for name, weight in self.weights.items()}
        self.scales: dict[str, Doubles] = {}
        self.reach: dict[str, Doubles] = {}

    def watch(self, batches: Batches) -> None:
        """Learn what the channels reach, in units of the layer's weights."""
        found = channel_maxima(self.model, batches, [couple.value for couple in self.couples])
        for couple in self.couples:
            reach = found[couple.value]
            if len(reach) == len(self.weights[couple.first]) and reach.max(initial=0.0) > 0:
                self.reach[couple.first] = reach * (self._made(couple).max() / reach.max())

    def equalize_(self, rounds: int) -> int:
        named = {couple.first: couple for couple in self.couples}
        clipped = "a ReLU6 behind it holds its scale"
        firsts = {found.layer.name for found in self.layers.layers.values()}
        self.blocked = {
            name: self._blocked.get(name, clipped) for name in self.layers.layers if name in firsts - named.keys()
        }
        self.scales = {name: np.ones(len(self.weights[name])) for name in named}
        triples = [] if self.reach else _triples(self.couples, self._is_depthwise)
        dead = {couple.first: self._dead_channels(couple) for couple in self.couples}
        inside = {couple.first for triple in triples for couple in triple}
        done = 0
        for _ in range(rounds if named else 0):
            done += 1
            moved = 0.0
            for left, right in triples:
                s12, s23 = triple_scales(
                    self._made(left), self._made(right), self._read(right), dead[left.first] | dead[right.first]
                )
                self._scale(left, s12)
                self._scale(right, s23)
                moved = max(moved, _distance(s12), _distance(s23))
            for couple in self.couples:
                if couple.first not in inside:
                    scale = pair_scale(self._made(couple), self._read(couple), dead[couple.first])
                    self._scale(couple, scale)
                    moved = max(moved, _distance(scale))
            if moved < CONVERGED:
                break
        for couple in self.couples:
            self._scale(couple, self._factor_of_dead(couple, dead[couple.first]))
        self._store_()
        return done

    def _dead_channels(self, couple: Couple) -> Flags:
        made = _dead(_ranges(self.weights[couple.first]))
        # Weights that read a dead channel may be of any size: they are not what others are compared with.
        read = self._read(couple)
        return made | (read <= DEAD * read[~made].max(initial=0.0))

    def _factor_of_dead(self, couple: Couple, dead: Flags) -> Doubles:
        """(channels,) 1 but for dead channels."""
        scale = np.ones(len(dead))
        if dead.all() or not dead.any():
            return scale
        made, read = self._made(couple), self._read(couple)
        least = made[dead] / made[~dead].max()
        most = read[~dead].max() / np.maximum(read[dead], np.finfo(np.float64).tiny)
        common = np.exp(np.log(self.scales[couple.first][~dead]).mean())
        scale[dead] = np.maximum(np.minimum(common, most), np.maximum(least, np.finfo(np.float32).tiny))
        return scale

    def spreads(self) -> dict[str, tuple[float, float]]:
        return {name: (_ratio(self.before[name]), _ratio(_ranges(self.weights[name]))) for name in self.scales}

    def _is_depthwise(self, name: str) -> bool:
        shape, groups = self.weights[name].shape, self._groups(name)
        return groups == shape[0] and shape[1] == 1

    def _groups(self, name: str) -> int:
        geometry = self.layers.layers[name].uses[0].geometry
        return geometry.groups if geometry.kind != "linear" else 1

    def _made(self, couple: Couple) -> Doubles:
        ranges = _ranges(self.weights[couple.first])
        return np.maximum(ranges, self.reach.get(couple.first, 0.0))

    def _read(self, couple: Couple) -> Doubles:
        return channel_ranges(self.weights[couple.second], self._groups(couple.second), couple.spread)

    def _scale(self, couple: Couple, scale: Doubles) -> None:
        first = self.weights[couple.first]
        self.weights[couple.first] = first / scale.reshape(-1, *(1,) * (first.ndim - 1))
        self.weights[couple.second] = scale_inputs(
            self.weights[couple.second], self._groups(couple.second), couple.spread, scale
        )
        self.scales[couple.first] = self.scales[couple.first] * scale
        if couple.first in self.reach:
            self.reach[couple.first] = self.reach[couple.first] / scale

    def _store_(self) -> None:
        touched = set(self.scales) | {couple.second for couple in self.couples}
        for name in touched:
            self.layers.store_weight_(name, self.weights[name].astype(np.float32))
        for couple in self.couples:
            scale = self.scales[couple.first]
            use = self.layers.layers[couple.first].uses[0]
            bias = self.layers.bias(use)
            if bias is not None:
                self.layers.store_bias_(use, (bias / scale).astype(np.float32))
            for clip in couple.clips:
                bound_channels_(self.model, clip, scale, len(use.geometry.kernel))


def channel_maxima(model: onnx.ModelProto, batches: Batches, names: Sequence[str]) -> dict[str, Doubles]:
    """Value -> (channels,) largest magnitude on the images; channels lie on the second axis of maps, else the last."""
    first = next(images_of(batches()), None)
    if first is None or not names:
        return {}
    found: dict[str, Doubles] = {}
    parts, most = in_groups(model, [[name] for name in names], first[:1])
    for part in parts:
        runs = Runs(model, [names[index] for index in part])
        chunks = (images[i : i + most] for images in images_of(batches()) for i in range(0, len(images), most))
        for images in chunks:
            values = runs(images)
            for name in (names[index] for index in part):
                moved = np.abs(np.moveaxis(values[name], 1 if values[name].ndim in (2, 4) else -1, 0))
                own = moved.reshape(len(moved), -1).max(axis=1).astype(np.float64)
                found[name] = np.maximum(found.get(name, 0.0), own)
    return found


def _ranges(weight: Doubles) -> Doubles:
    """(outputs,) largest magnitude of each filter."""
    return np.abs(weight).reshape(len(weight), -1).max(axis=1)


def _dead(ranges: Doubles) -> Flags:
    return ranges <= DEAD * ranges.max(initial=0.0)


def _ratio(ranges: Doubles) -> float:
    alive = ranges[~_dead(ranges)]
    return float(alive.max() / alive.min()) if len(alive) else 1.0


def _distance(scale: Doubles) -> float:
    return float(np.abs(np.log(scale)).max(initial=0.0))


def _triples(couples: Sequence[Couple], is_depthwise: Callable[[str], bool]) -> list[tuple[Couple, Couple]]:
    """Couples around a depthwise layer, each couple in one triple at most."""
    by_first = {couple.first: couple for couple in couples}
    taken: set[str] = set()
    found: list[tuple[Couple, Couple]] = []
    for left in couples:
        right = by_first.get(left.second)
        if right is None or left.first in taken or right.first in taken or not is_depthwise(left.second):
            continue
        if left.spread == 1:
            taken |= {left.first, right.first}
            found.append((left, right))
    return found
