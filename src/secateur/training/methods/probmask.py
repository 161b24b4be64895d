"""ProbMask: a probability for every unit of weights, learned; training samples the masks.

    mask       sigmoid((log(c / (1 - c)) + g) tau_t)        g = log(u / (1 - u)), u uniform: a difference of Gumbels
    tau_t      1 / ((1 - tau)(1 - t/T) + tau)               1 at first, 1/tau at the end
    rate       0 up to t_w; p - (p - p_0)(1 - (t - t_w)/(t_f - t_w))^3 up to t_f; p afterwards
    project    find v >= 0 with  sum clamp(c - v, 0, 1) = (1 - rate) N,  then  c <- clamp(c - v, 0, 1)

after every step, over all planned layers at once, so that layers compete; every unit counts with its weights. The
scores learn by Adam, their rate falls with that of the weights. The test images see the most probable mask, and
so does everything afterwards: the units with the highest scores stay, as many as the plan says (the source draws the
last mask at random, which misses the count).

Source: Zhou, Zhang, Xu & Zhang 2021; numbers as in MSBench. Blocks as units and weighted counts are our own design.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secateur.recipe import ProbMask
from secateur.sparsity import SparsityPlan
from secateur.training import distributed
from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene
from secateur.training.methods.units import Units, catch, lowest, prune_to_, units_of
from secateur.training.optimizer import load_optimizer_tensors_, optimizer_tensors

# Halves an interval of at most 1 to 5e-7, finer than the sources' tolerance of 1e-3.
HALVINGS = 21
# Keeps the logarithms finite; a probability of 0 or 1 still has the gradient of one close to it.
EPSILON = 1e-6
# The published rate of Adam, and how often a score can cross from 0 to 1 in a short run. Measured on digits, 90 %
# zeros: 135 steps end at 10 % top-1 with 6e-3 and at 86 % with .3; 540 steps at 23 %, with .05 at 91, with .1 at 88 %.
PUBLISHED_RATE, CROSSINGS = 6e-3, 40.0


def rate_at(config: ProbMask, step: int, steps: int, final: float) -> float:
    """Sparsity asked for at a step of `steps`."""
    begin, end = config.start * steps, config.end * steps
    if step < begin:
        return 0.0
    if step >= end:
        return final
    return final - (final - config.initial) * (1.0 - (step - begin) / (end - begin)) ** 3


def sharpness_at(config: ProbMask, step: int, steps: int) -> float:
    """tau_t: how close the sampled masks are to zeros and ones."""
    return 1.0 / ((1.0 - config.tau) * (1.0 - step / steps) + config.tau)


def projected(scores: Sequence[Tensor], sizes: Sequence[Tensor], keep: float) -> list[Tensor]:
    """The scores moved down together until their sum, weighted by `sizes`, is at most `keep`."""

    joined, size = torch.cat([score.double() for score in scores]), torch.cat(list(sizes))

    def total(shift: float) -> float:
        return float(((joined - shift).clamp(0, 1) * size).sum())

    low, high = 0.0, max(0.0, float(joined.max()))
    if total(0.0) <= keep:
        return [score.clamp(0, 1) for score in scores]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) > keep else (low, middle)
    return [(score - high).clamp(0, 1) for score in scores]


def score_rate(config: ProbMask, steps: int) -> float:
    """The learning rate of the scores in a run of so many steps."""
    if config.score_learning_rate is not None:
        return config.score_learning_rate
    return max(PUBLISHED_RATE, min(CROSSINGS / steps, 1.0))


class MaskProbabilities(Hook):
    """Learns which units stay, together with the weights; the planned layers end with masks of the planned count."""

    def __init__(self, plan: SparsityPlan, config: ProbMask) -> None:
        self.plan, self.config = plan, config

    def begin(self, scene: Scene) -> None:
        self._scene = scene
        self._units = units_of(scene.model, self.plan, "probmask")
        self._sizes = [unit.sizes for unit in self._units]
        start = self.config.score_init
        self._scores = [
            torch.full_like(unit.sizes, start, dtype=torch.float32).requires_grad_() for unit in self._units
        ]
        self._rate = score_rate(self.config, scene.steps)
        # The order of the sums must not depend on the machine's choice of an implementation.
        self._optimizer = torch.optim.Adam(self._scores, lr=self._rate, foreach=False)
        self._sampled: list[Tensor] = []
        self._likely: list[Tensor] | None = None
        self._step, self._ended = 0, False
        self._handles = catch(self._units, self._masked)

    def before_step(self, step: int) -> None:
        sharpness = sharpness_at(self.config, step, self._scene.steps)
        self._step, self._sampled, self._likely = step, [], None
        for score in self._scores:
            uniform = torch.rand_like(score).clamp(EPSILON, 1 - EPSILON)
            logit = torch.log(score + EPSILON) - torch.log1p(EPSILON - score)
            self._sampled.append(torch.sigmoid((logit + torch.logit(uniform)) * sharpness))

    def after_backward(self, step: int) -> None:
        group = self._optimizer.param_groups[0]
        relative = self._scene.optimizer.param_groups[0]["lr"] / self._scene.config.learning_rate
        group["lr"] = self._rate * relative
        for score in self._scores:
            if score.grad is not None:
                score.grad = distributed.sum_over_group(score.grad) / distributed.world_size()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        if step >= self.config.start * self._scene.steps:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._sampled, self._step = [], step + 1
        rate = rate_at(self.config, step + 1, self._scene.steps, self._share)
        keep = (1.0 - rate) * float(sum(size.sum() for size in self._sizes))
        for score, new in zip(self._scores, projected(self._scores, self._sizes, keep), strict=True):
            score.copy_(new)
        self._likely = None

    @torch.no_grad()
    def end(self) -> None:
        prune_to_(self._units, self._scores, self.plan.zeros)
        self._ended = True
        self.close()

    def settled(self, row: Row) -> bool:
        return self._ended

    def close(self) -> None:
        for handle in getattr(self, "_handles", ()):
            handle.remove()

    def state(self) -> dict[str, Tensor]:
        scores = {f"score.{number}": score.detach() for number, score in enumerate(self._scores)}
        return scores | {f"adam.{name}": value for name, value in optimizer_tensors(self._optimizer).items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        for number, score in enumerate(self._scores):
            score.copy_(state[f"score.{number}"])
        memory = {name.removeprefix("adam."): value for name, value in state.items() if name.startswith("adam.")}
        load_optimizer_tensors_(self._optimizer, memory)

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json") | {"pattern": str(self.plan.pattern), "levels": self.plan.levels}

    @property
    def _share(self) -> float:
        """The final rate, as a share of the weights in units."""
        return self.plan.zeros / float(sum(size.sum() for size in self._sizes))

    def _masked(self, number: int, weight: Tensor) -> Tensor:
        unit: Units = self._units[number]
        if self._sampled:
            return weight * unit.spread(self._sampled[number], 1.0)
        return weight * unit.spread(self._most_likely()[number].to(weight.dtype), 1.0)

    @torch.no_grad()
    def _most_likely(self) -> list[Tensor]:
        """The mask that the current scores mean at the current rate."""
        if self._likely is None:
            rate = rate_at(self.config, self._step, self._scene.steps, self._share)
            zeros = int(rate * float(sum(size.sum() for size in self._sizes)))
            self._likely = lowest(self._units, self._scores, zeros)
        return self._likely
