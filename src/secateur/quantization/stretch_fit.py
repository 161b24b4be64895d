"""Learning how the weights of one stretch are rounded.

    minimise over V    sum over channels of f (y^ - y)^2, mean over the rest, + .01 sum of 1 - |2 h(V) - 1|^beta

y is what the float network gives, y^ what the stretch gives from inputs of the quantized network so far; f is 1 or the
squared gradient of the network's loss on its own answers. What is worse than nearest on held-out images is not kept.

Source: as learned_rounding.py.
"""

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from secateur.errors import QuantizationError
from secateur.quantization.soft_rounding import SoftWeight, falling_beta
from secateur.quantization.soft_values import SoftValues
from secateur.quantization.stretches import Stretch, StretchKind
from secateur.quantization.torch_graph import CHUNK, TorchGraph, Walk


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
class Setting:
    """What all stretches of one network have in common.

    images     how many there are; the first `held` are held out
    values     how values are rounded; `exact` names reads that are not
    nearest    name of a node -> its weight rounded to nearest
    """

    graph: TorchGraph
    options: LearnOptions
    images: int
    held: int
    values: SoftValues
    exact: Collection[tuple[str, str]]
    nearest: Mapping[str, Tensor]
    generator: Generator


class StretchFit:
    """One stretch: its sources in both networks, what it should give, and its weights on the way."""

    def __init__(
        self, setting: Setting, stretch: Stretch, dense: Walk, rough: Walk, soft: Mapping[str, SoftWeight]
    ) -> None:
        """Both walks are at the stretch's start. soft: weights whose rounding is learned, by node."""
        self.setting, self.stretch, self.options = setting, stretch, setting.options
        self.sources = {name: rough.values[name] for name in stretch.sources}
        self.dense_sources = {name: dense.values[name] for name in stretch.sources}
        self.targets = self._targets(dense)
        self.soft = dict(soft)
        self.rest = {
            name: setting.nearest[name] for name in stretch.layers if name in setting.nearest and name not in self.soft
        }
        self.importance = self._importance() if self.options.fisher and stretch.cut else None

    def run(self, seconds: float | None) -> tuple[LearnedStretch, dict[str, Tensor]]:
        """What became of it, and the weights of its layers."""
        started, options, values = time.monotonic(), self.options, self.setting.values
        before, nearest = values.steps(), {name: soft.nearest for name, soft in self.soft.items()}
        error = self._held_error(nearest)
        parameters: list[dict[str, object]] = [
            {"params": [soft.v for soft in self.soft.values()], "lr": options.learning_rate}
        ]
        if options.step_rate:
            inside = {name for node in self.stretch.nodes for name in self.setting.graph.reads(node)}
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
        options, setting = self.options, self.setting
        optimizer = torch.optim.Adam(parameters, foreach=False)
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        learning = setting.images - setting.held
        step = 0
        while step < options.steps:
            done = step / options.steps
            if seconds is not None:
                done = max(done, (time.monotonic() - started) / seconds)
                if done >= 1.0:
                    break
            if len(rates) > 1:
                optimizer.param_groups[1]["lr"] = rates[1] * (1 + math.cos(math.pi * done)) / 2
            rows = setting.held + torch.randint(learning, (min(options.batch, learning),), generator=setting.generator)
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
        setting, values = self.setting, self.setting.values
        current = {name: source[rows] for name, source in self.sources.items()}

        def read(name: str, x: Tensor) -> Tensor:
            plain = self.dense_sources[name][rows] if name in self.dense_sources and share < 1.0 else x
            return values.dropped(name, x, plain, share, setting.generator)

        setting.graph.run(self.stretch.nodes, current, weights=weights, read=read, exact=setting.exact)
        target = self.targets[rows]
        squares = (current[self.stretch.result] - target).square()
        if self.importance is not None:
            squares = squares * self.importance[rows]
        return squares.flatten(1).sum() / (len(rows) * _positions(target))

    @torch.no_grad()
    def _held_error(self, weights: dict[str, Tensor]) -> float:
        total = 0.0
        for start in range(0, self.setting.held, CHUNK):
            rows = torch.arange(start, min(start + CHUNK, self.setting.held))
            total += float(self._loss(rows, weights | self.rest, 1.0).double()) * len(rows)
        return total / self.setting.held

    @torch.no_grad()
    def _targets(self, dense: Walk) -> Tensor:
        parts: list[Tensor] = []
        for start in range(0, self.setting.images, CHUNK):
            current = {name: source[start : start + CHUNK] for name, source in self.dense_sources.items()}
            self.setting.graph.run(self.stretch.nodes, current)
            parts.append(current[self.stretch.result])
        return torch.cat(parts)

    def _importance(self) -> Tensor:
        """Squared gradient of the cross-entropy with the float network's own answers, 1 on average."""
        graph = self.setting.graph
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
