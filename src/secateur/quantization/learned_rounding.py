"""Learned rounding: which of its two neighbours each weight goes to is fitted, stretch after stretch.

    minimise over V    sum over channels of f (y^ - y)^2, mean over the rest, + .01 sum of 1 - |2 h(V) - 1|^beta

y is what the float network gives, y^ what the stretch gives from inputs of the quantized network so far. f = 1, or the
squared gradient of the network's loss on its own answers (Fisher). Of each stretch the better of learned and nearest is
kept, on images that were held out; so is the better of both whole networks.

Source: Nagel et al. 2020 (AdaRound, one layer at a time); Li et al. 2021 (BRECQ: blocks, Fisher weights); Wei et al.
2022 (QDrop: values are rounded at random).
"""

import time
from dataclasses import dataclass, replace
from math import prod

import onnx
import torch
from torch import Tensor

from secateur.errors import QuantizationError
from secateur.graph.table import text_table
from secateur.progress import Tracker, track
from secateur.quantization.column_rounding import rows_first
from secateur.quantization.simulate import exact_reads, round_weights_
from secateur.quantization.soft_rounding import SoftWeight
from secateur.quantization.soft_values import SoftValues
from secateur.quantization.stretch_fit import LearnedStretch, LearnOptions, Setting, StretchFit
from secateur.quantization.stretches import Stretch, stretches_of
from secateur.quantization.subjects import Batches, StoredLayer, size_of, stored_layers, subject_of
from secateur.quantization.table import ScaleTable
from secateur.quantization.torch_graph import Walk, images_within, torch_graph

HELD_OUT = 0.125

__all__ = ["LearnOptions", "LearnedRounding", "LearnedStretch", "learn_rounding"]


@dataclass(frozen=True)
class LearnedRounding:
    """A model whose weights are on the grid of its table; prints as a table.

    table           with learned steps of values, where they were asked for
    nearest, learned    mean squared error of the network's outputs on held-out images
    """

    model: onnx.ModelProto
    table: ScaleTable
    stretches: tuple[LearnedStretch, ...]
    nearest: float
    learned: float

    def __str__(self) -> str:
        def figure(value: float | None) -> str:
            return "" if value is None else f"{value:.4g}"

        rows = [
            (row.name, figure(row.nearest), figure(row.learned), f"{row.turned:.1%}", "yes" if row.kept else "no")
            for row in self.stretches
        ]
        table = text_table(("stretch", "nearest", "learned", "turned", "kept"), rows)
        return f"{table}\noutputs: error {self.nearest:.4g} to nearest, {self.learned:.4g} learned"


def learn_rounding(
    model: onnx.ModelProto, table: ScaleTable, batches: Batches, options: LearnOptions | None = None
) -> LearnedRounding:
    """The model with all weights of the table rounded; the given one is not changed.

    model      prepared
    batches    calibration images, as many as fit into memory; an eighth of them, at least one, is held out
    raises     QuantizationError  an operator that gradients cannot pass, fewer than two images
    """
    return _Job(model, table, batches, options or LearnOptions()).run()


class _Job:
    def __init__(self, model: onnx.ModelProto, table: ScaleTable, batches: Batches, options: LearnOptions) -> None:
        self.model, self.table, self.options, self.batches = model, table, options, batches
        self.graph = torch_graph(model, size_of(batches))
        images = images_within(self.graph, batches)
        if len(images) < 2:
            raise QuantizationError("learned rounding needs at least two images: one to learn from, one held out.")
        generator = torch.Generator().manual_seed(options.seed)
        order = torch.randperm(len(images), generator=generator)
        self.held = max(1, round(HELD_OUT * len(images)))
        # Held-out images come first, so that one walk has both.
        self.images = images[order]
        layers = stored_layers(model, size_of(batches)).values()
        stored = {node: layer for layer in layers for node in (layer.node, *layer.others)}
        self.layers: dict[str, StoredLayer] = {
            node.name: stored[node.name]
            for node in self.graph.layers
            if node.name in stored and stored[node.name].tensor in table.weights
        }
        self.values, self.exact = SoftValues(table), exact_reads(model, table)
        self.nearest = {name: self.soft(name).nearest for name in self.layers}
        self.setting = Setting(
            self.graph, options, len(images), self.held, self.values, self.exact, self.nearest, generator
        )

    def run(self) -> LearnedRounding:
        stretches = stretches_of(self.graph, self.options.unit)
        dense = Walk(self.graph, {self.graph.source: self.images})
        rough = Walk(self.graph, {self.graph.source: self.images}, read=self.values, exact=self.exact)
        work = [self._work(stretch) for stretch in stretches]
        rows: list[LearnedStretch] = []
        started, left = time.monotonic(), sum(work)
        with track(len(stretches), "learned rounding") as progress:
            for stretch, own in zip(stretches, work, strict=True):
                seconds = None
                if self.options.seconds is not None:
                    rest = max(self.options.seconds - (time.monotonic() - started), 0.0)
                    seconds = rest * own / max(left, 1)
                left -= own
                rows.append(self._stretch(stretch, dense, rough, seconds, progress))
        end = len(self.graph.nodes)
        dense.to(end)
        rough.to(end)
        return self._result(rows, dense, rough)

    def _stretch(
        self, stretch: Stretch, dense: Walk, rough: Walk, seconds: float | None, progress: Tracker
    ) -> LearnedStretch:
        dense.to(stretch.start)
        rough.to(stretch.start)
        chosen = {name: self.nearest[name] for name in stretch.layers if name in self.layers}
        row = LearnedStretch(stretch.name, None, None, 0.0, False, 0, 0.0)
        # A weight that several operators use is learned where the first one runs.
        firsts = [name for name in chosen if self.layers[name].node == name]
        learnable = [name for name in firsts if self.layers[name].kind != "conv_transpose"]
        if learnable and (seconds is None or seconds > 0):
            soft = {name: self.soft(name) for name in learnable}
            row, learned = StretchFit(self.setting, stretch, dense, rough, soft).run(seconds)
            chosen |= learned
            progress.advance(stretch=row.name, gain=1 - (row.learned or 0.0) / row.nearest if row.nearest else 0.0)
        else:
            progress.advance()
        rough.weights.update(chosen)
        rough.weights.update({name: rough.weights[self.layers[name].node] for name in chosen})
        return row

    def _result(self, rows: list[LearnedStretch], dense: Walk, rough: Walk) -> LearnedRounding:
        """The better of both whole networks on held-out images."""
        wanted = dense.values[self.graph.result][: self.held]
        learned = _distance(rough.values[self.graph.result][: self.held], wanted)
        held = {self.graph.source: self.images[: self.held]}
        plain = Walk(self.graph, held, dict(self.nearest), SoftValues(self.table), self.exact)
        plain.to(len(self.graph.nodes))
        nearest = _distance(plain.values[self.graph.result], wanted)
        weights, table = dict(rough.weights), replace(self.table, values=self.values.scales())
        if not learned <= nearest:
            weights, table, learned = self.nearest, self.table, nearest
            rows = [replace(row, kept=False) for row in rows]
        subject = subject_of(self.model, self.batches)
        for name, layer in self.layers.items():
            if name != layer.node:
                continue
            if layer.kind == "conv_transpose":
                round_weights_(subject.model, self.table, [layer.tensor])
            else:
                subject.store_(layer.name, weights.get(name, self.nearest[name]))
        return LearnedRounding(subject.model, table, tuple(rows), nearest, learned)

    def soft(self, name: str) -> SoftWeight:
        """The weight of a layer between the numbers of its grid."""
        layer, scale = self.layers[name], self.table.weights[self.layers[name].tensor]
        node = next(node for node in self.graph.layers if node.name == name)
        return SoftWeight(
            self.graph.weight(node), scale if layer.kind == "conv_transpose" else rows_first(scale, layer)
        )

    def _work(self, stretch: Stretch) -> int:
        total = 0
        for node in stretch.nodes:
            if node.name in self.layers:
                total += self.graph.weight(node).numel() * prod(self.graph.shapes[node.outputs[0]][2:])
        return total


def _distance(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).double().square().mean())
