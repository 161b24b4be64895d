"""Learned rounding: which of its two neighbours each weight goes to is fitted, stretch after stretch.

    minimise over V    sum over channels of f (y^ - y)^2, mean over the rest, + .01 sum of 1 - |2 h(V) - 1|^beta

y is what the float network gives, y^ what the stretch gives from inputs of the quantized network so far. f = 1, or the
squared gradient of the network's loss on its own answers (Fisher). Of each stretch the better of learned and nearest is
kept, on images that were held out; so is the better of both whole networks.

Source: Nagel et al. 2020 (AdaRound, one layer at a time); Li et al. 2021 (BRECQ: blocks, Fisher weights); Wei et al.
2022 (QDrop: values are rounded at random).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import QuantizationError
from secateur.graph.table import text_table
from secateur.progress import Tracker, track
from secateur.quantization.column_rounding import rows_first
from secateur.quantization.simulate import exact_reads, round_weights_
from secateur.quantization.soft_rounding import SoftWeight, falling_beta
from secateur.quantization.soft_values import SoftValues
from secateur.quantization.stretches import Stretch, StretchKind, stretches_of
from secateur.quantization.subjects import Batches, StoredLayer, size_of, stored_layers, subject_of
from secateur.quantization.table import ScaleTable
from secateur.quantization.torch_graph import CHUNK, Walk, images_within, torch_graph

HELD_OUT = 0.125


@dataclass(frozen=True)
class LearnOptions:
    """How rounding is learned.

    unit            one layer at a time, or blocks
    steps           of each stretch; 20000 in the source
    seconds         for all stretches together; each gets a share by its work. None: no limit
    batch           images of a step
    learning_rate   of V
    regularizer     weight of the term that draws to 0 and 1
    beta            its exponent: first and last
    warmup          share of the steps without that term
    drop            share of the elements of values that are rounded; .5 is QDrop
    fisher          weigh outputs of blocks by the squared gradient of the loss
    step_rate       learning rate of the steps of values; 0 leaves them, 4e-5 in QDrop
    raises          QuantizationError
    """

    unit: StretchKind = "layer"
    steps: int = 2000
    seconds: float | None = None
    batch: int = 32
    learning_rate: float = 1e-2
    regularizer: float = 0.01
    beta: tuple[float, float] = (20.0, 2.0)
    warmup: float = 0.2
    drop: float = 1.0
    fisher: bool = False
    step_rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unit not in ("layer", "block"):
            raise QuantizationError(f"rounding is learned by layer or by block, not by '{self.unit}'.")
        if self.steps < 1 or self.batch < 1 or not self.learning_rate > 0:
            raise QuantizationError("learned rounding needs at least 1 step of 1 image, at a rate above 0.")
        if not 0 < self.drop <= 1 or not 0 <= self.warmup < 1:
            raise QuantizationError("drop is above 0 and at most 1, warmup from 0 to below 1.")
        if self.fisher and self.unit != "block":
            raise QuantizationError("outputs are weighed by gradients block by block; set unit to 'block'.")


@dataclass(frozen=True)
class LearnedStretch:
    """What became of one stretch.

    nearest, learned    the loss on held-out images, without the regulariser; None where there was no time
    turned              share of the weights that are not rounded to nearest
    kept                whether the learned rounding was kept
    """

    name: str
    nearest: float | None
    learned: float | None
    turned: float
    kept: bool
    steps: int
    seconds: float


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
        self.generator = torch.Generator().manual_seed(options.seed)
        order = torch.randperm(len(images), generator=self.generator)
        self.held = max(1, round(HELD_OUT * len(images)))
        # Held-out images come first, so that one walk has both.
        self.images = images[order]
        stored = {layer.node: layer for layer in stored_layers(model, size_of(batches)).values()}
        self.layers: dict[str, StoredLayer] = {
            node.name: stored[node.name]
            for node in self.graph.layers
            if node.name in stored and stored[node.name].tensor in table.weights
        }
        self.values, self.exact = SoftValues(table), exact_reads(model, table)
        self.nearest = {name: self.soft(name).nearest for name in self.layers}

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
        learnable = [name for name in chosen if self.layers[name].kind != "conv_transpose"]
        if learnable and (seconds is None or seconds > 0):
            row, learned = _Fit(self, stretch, dense, rough, learnable).run(seconds)
            chosen |= learned
            progress.advance(stretch=row.name, gain=1 - (row.learned or 0.0) / row.nearest if row.nearest else 0.0)
        else:
            progress.advance()
        rough.weights.update(chosen)
        return row

    def _result(self, rows: list[LearnedStretch], dense: Walk, rough: Walk) -> LearnedRounding:
        """The better of both whole networks on held-out images."""
        wanted = dense.values[self.graph.result][: self.held]
        learned = _distance(rough.values[self.graph.result][: self.held], wanted)
        plain = Walk(
            self.graph, {self.graph.source: self.images[: self.held]}, dict(self.nearest), SoftValues(self.table)
        )
        plain.to(len(self.graph.nodes))
        nearest = _distance(plain.values[self.graph.result], wanted)
        weights, table = dict(rough.weights), replace(self.table, values=self.values.scales())
        if not learned <= nearest:
            weights, table, learned = self.nearest, self.table, nearest
            rows = [replace(row, kept=False) for row in rows]
        subject = subject_of(self.model, self.batches)
        for name, layer in self.layers.items():
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
                shape = self.graph.shapes[node.outputs[0]]
                positions = 1
                for side in shape[2:]:
                    positions *= side
                total += self.graph.weight(node).numel() * positions
        return total


class _Fit:
    """One stretch: its sources in both networks, what it should give, and its weights on the way."""

    def __init__(self, job: _Job, stretch: Stretch, dense: Walk, rough: Walk, layers: Sequence[str]) -> None:
        self.job, self.stretch, self.options = job, stretch, job.options
        self.sources = {name: rough.values[name] for name in stretch.sources}
        self.dense_sources = {name: dense.values[name] for name in stretch.sources}
        self.targets = self._targets(dense)
        self.soft = {name: job.soft(name) for name in layers}
        self.rest = {
            name: job.nearest[name] for name in stretch.layers if name in job.nearest and name not in self.soft
        }
        self.importance = self._importance() if self.options.fisher and stretch.cut else None

    def run(self, seconds: float | None) -> tuple[LearnedStretch, dict[str, Tensor]]:
        """What became of it, and the weights of its layers."""
        started, options, values = time.monotonic(), self.options, self.job.values
        before, nearest = values.steps(), {name: soft.nearest for name, soft in self.soft.items()}
        error = self._held_error(nearest)
        parameters: list[dict[str, object]] = [
            {"params": [soft.v for soft in self.soft.values()], "lr": options.learning_rate}
        ]
        if options.step_rate:
            inside = {name for node in self.stretch.nodes for name in self.job.graph.reads(node)}
            steps = values.learn_(sorted(inside))
            if steps:
                parameters.append({"params": steps, "lr": options.step_rate})
        done = self._descend(parameters, started, seconds)
        values.freeze_()
        hard = {name: soft.hard() for name, soft in self.soft.items()}
        learned = self._held_error(hard)
        kept = learned < error
        if not kept:
            values.put_(before)
        turned = sum(soft.turned * soft.nearest.numel() for soft in self.soft.values())
        share = turned / sum(soft.nearest.numel() for soft in self.soft.values())
        elapsed = time.monotonic() - started
        row = LearnedStretch(self.stretch.name, error, learned, share, kept, done, elapsed)
        return row, hard if kept else nearest

    def _descend(self, parameters: list[dict[str, object]], started: float, seconds: float | None) -> int:
        options, job = self.options, self.job
        optimizer = torch.optim.Adam(parameters, foreach=False)
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        learning = len(job.images) - job.held
        step = 0
        while step < options.steps:
            done = step / options.steps
            if seconds is not None:
                done = max(done, (time.monotonic() - started) / seconds)
                if done >= 1.0:
                    break
            if len(rates) > 1:
                optimizer.param_groups[1]["lr"] = rates[1] * (1 + torch.cos(torch.tensor(torch.pi * done)).item()) / 2
            rows = job.held + torch.randint(learning, (min(options.batch, learning),), generator=job.generator)
            weights = {name: soft.soft() for name, soft in self.soft.items()} | self.rest
            loss = self._loss(rows, weights, options.drop)
            # The place in the schedule is that of steps or of time, whichever is further on.
            beta = falling_beta(round(done * 1000), 1000, *options.beta, options.warmup)
            if done >= options.warmup:
                loss = loss + options.regularizer * sum(soft.pull(beta) for soft in self.soft.values())
            if not bool(torch.isfinite(loss)):
                break
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
        return step

    def _loss(self, rows: Tensor, weights: dict[str, Tensor], share: float) -> Tensor:
        job, values = self.job, self.job.values
        current = {name: source[rows] for name, source in self.sources.items()}

        def read(name: str, x: Tensor) -> Tensor:
            plain = self.dense_sources[name][rows] if name in self.dense_sources and share < 1.0 else x
            return values.dropped(name, x, plain, share, job.generator)

        job.graph.run(self.stretch.nodes, current, weights=weights, read=read, exact=job.exact)
        target = self.targets[rows]
        squares = (current[self.stretch.result] - target).square()
        if self.importance is not None:
            squares = squares * self.importance[rows]
        return squares.flatten(1).sum() / (len(rows) * _positions(target))

    @torch.no_grad()
    def _held_error(self, weights: dict[str, Tensor]) -> float:
        total = 0.0
        for start in range(0, self.job.held, CHUNK):
            rows = torch.arange(start, min(start + CHUNK, self.job.held))
            total += float(self._loss(rows, weights | self.rest, 1.0).double()) * len(rows)
        return total / self.job.held

    @torch.no_grad()
    def _targets(self, dense: Walk) -> Tensor:
        parts: list[Tensor] = []
        for start in range(0, len(self.job.images), CHUNK):
            current = {name: source[start : start + CHUNK] for name, source in self.dense_sources.items()}
            self.job.graph.run(self.stretch.nodes, current)
            parts.append(current[self.stretch.result])
        return torch.cat(parts)

    def _importance(self) -> Tensor:
        """Squared gradient of the cross-entropy with the float network's own answers, 1 on average."""
        graph = self.job.graph
        behind = graph.nodes[self.stretch.start + len(self.stretch.nodes) :]
        parts: list[Tensor] = []
        for start in range(0, len(self.targets), CHUNK):
            leaf = self.targets[start : start + CHUNK].clone().requires_grad_(True)
            current = {self.stretch.result: leaf}
            graph.run(behind, current)
            logits = current[graph.result].flatten(1)
            loss = F.cross_entropy(logits, logits.detach().argmax(1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, [leaf])
            parts.append(gradient.square())
        squares = torch.cat(parts)
        mean = squares.mean()
        return squares / mean if float(mean) > 0 else torch.ones_like(squares)


def _positions(value: Tensor) -> int:
    """Of a value (images, channels, ...): how many there are of each channel."""
    return value[0, 0].numel() if value.dim() > 2 else 1


def _distance(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).double().square().mean())
