"""The hook that says when a training rounds, and when the statistics of norms stay as they are.

    step < quant_delay              nothing is rounded; ranges are observed
    step >= freeze_bn_delay         norms use and keep their running statistics; by default in the last fifth
    loss                            + what the rules add to it (the decay of PACT's clips)

Both follow from the number of the step alone, and what the rules learn or observe is part of the network, so that a
run which is killed goes on bit for bit.

Source: TensorFlow's training rewriter (quant_delay, freeze_bn_delay); Krishnamoorthi 2018, section 3.2.2.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.quantization.training.activations import ActivationRule
from secateur.quantization.training.biases import RoundedBias
from secateur.quantization.training.weights import RoundedWeight, WeightRule
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.sparsity.layers import unwrapped
from secateur.sparsity.norms import norm_modules
from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene

ROUNDING_SHARE = 0.8  # of the steps, after which norms are frozen where the recipe does not say when


def set_rounding_(model: nn.Module, on: bool) -> None:
    """Round everything that was prepared, or nothing."""
    for module in model.modules():
        if isinstance(module, ActivationRule | RoundedWeight | RoundedBias):
            module.on = on


class RoundingSchedule(Hook):
    """Turns rounding on and freezes norms, by the number of the step."""

    def __init__(self, model: nn.Module, config: QuantizationTraining) -> None:
        self.model, self.config = model, config

    def begin(self, scene: Scene) -> None:
        if unwrapped(scene.model) is not self.model:
            raise TrainingError("this network is not the one that prepare_ made ready to be trained with rounding.")
        delay = self.config.freeze_bn_delay
        self._freeze = round(ROUNDING_SHARE * scene.steps) if delay is None else delay
        self._steps, self._per_epoch = scene.steps, scene.steps_per_epoch
        self._norms = list(norm_modules(self.model).values())
        self._rules = [module for module in self.model.modules() if isinstance(module, ActivationRule)]
        rules = [module for module in self.model.modules() if isinstance(module, ActivationRule | WeightRule)]
        self._learned = [p for rule in rules for p in rule.parameters() if p.requires_grad]
        set_rounding_(self.model, self.config.quant_delay == 0)

    def before_step(self, step: int) -> None:
        set_rounding_(self.model, step >= self.config.quant_delay)
        for norm in self._norms if step >= self._freeze else ():
            norm.eval()

    def extra_loss(self, model: nn.Module, step: int) -> Tensor | None:
        # Torch's fused optimisers want a gradient of every parameter from the first step on.
        idle = [0.0 * parameter.sum() for parameter in self._learned]
        delayed = step < self.config.quant_delay
        return _sum((*idle, *(() if delayed else (rule.penalty() for rule in self._rules))))

    def settled(self, row: Row) -> bool:
        return (row.epoch + 1) * self._per_epoch > self.config.quant_delay

    def end(self) -> None:
        set_rounding_(self.model, True)

    def close(self) -> None:
        set_rounding_(self.model, True)

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")


def _sum(terms: Iterable[Tensor | None]) -> Tensor | None:
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total
