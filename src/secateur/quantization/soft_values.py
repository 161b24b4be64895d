"""Rounded values that gradients pass through, and steps of values that can be learned.

    x^ = step clamp(round(x / step), low, high)           the gradient of round is 1 (straight through)
    drop      each element is x^ with probability p, else x: a fit does not lean on one pattern of errors

Sources: Esser et al. 2020 (LSQ: gradients of steps); Wei et al. 2022 (QDrop).
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Generator, Tensor

from secateur.quantization.numbers import Scale
from secateur.quantization.table import ScaleTable


class SoftValues:
    """The values of a table, rounded as they are read.

    names    whose steps are learned; none that shares its step with another value
    """

    def __init__(self, table: ScaleTable) -> None:
        self._scales = dict(table.values)
        self._steps = {name: torch.from_numpy(np.array(scale.step)) for name, scale in table.values.items()}

    def learn_(self, names: Iterable[str]) -> list[Tensor]:
        """Make the steps of these values parameters; those that share their step with another value are left out."""
        chosen = [name for name in names if name in self._scales and not self._shared(name)]
        for name in chosen:
            self._steps[name].requires_grad_(True)
        return [self._steps[name] for name in chosen]

    def freeze_(self) -> None:
        """No step is a parameter any more."""
        for step in self._steps.values():
            step.requires_grad_(False)

    def steps(self) -> dict[str, Tensor]:
        """Copies of all steps."""
        return {name: step.detach().clone() for name, step in self._steps.items()}

    def put_(self, steps: dict[str, Tensor]) -> None:
        """Take steps back."""
        for name, step in steps.items():
            with torch.no_grad():
                self._steps[name].copy_(step)

    def __contains__(self, name: object) -> bool:
        return name in self._scales

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """What readers of a value get; values without a scale as they are."""
        if name not in self._scales:
            return x
        scale = self._scales[name]
        low, high = scale.numbers.low - int(scale.zero), scale.numbers.high - int(scale.zero)
        step = self._steps[name].abs().clamp_min(1e-12)
        ratio = (x / step).clamp(low, high)
        return (ratio + (ratio.round() - ratio).detach()) * step

    def dropped(self, name: str, x: Tensor, plain: Tensor, share: float, generator: Generator) -> Tensor:
        """The rounded value for a random share of the elements, `plain` for the others."""
        rounded = self(name, x)
        if share >= 1.0:
            return rounded
        return torch.where(torch.rand(x.shape, generator=generator) < share, rounded, plain)

    def scales(self) -> dict[str, Scale]:
        """The scales with the steps as they are now; zero points stay."""
        found: dict[str, Scale] = {}
        for name, scale in self._scales.items():
            step = np.abs(self._steps[name].detach().numpy()).astype(np.float32)
            found[name] = Scale(step, scale.zero, scale.axis, scale.numbers)
        return found

    def _shared(self, name: str) -> bool:
        own = self._scales[name]
        return any(other == own for key, other in self._scales.items() if key != name)
