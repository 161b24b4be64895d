"""Feature distillation: intermediate maps of the student are pulled to the teacher's.

    loss + sum over the chosen layers of  weight * mean (student's map - teacher's map)^2

Source: Romero et al. 2015, without a map between the two: student and teacher have the same layers.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.registry import unknown
from secateur.sparsity import unwrapped
from secateur.training.hooks import Hook, Scene


def chosen_layers(model: nn.Module, features: Mapping[str, float]) -> dict[str, float]:
    """Module name -> weight; of two globs that match, the later one counts.

    raises    TrainingError  a glob that matches no module of the network
    """
    names = [name for name, _ in unwrapped(model).named_modules() if name and "parametrizations" not in name.split(".")]
    weights: dict[str, float] = {}
    for glob, weight in features.items():
        matched = [name for name in names if fnmatchcase(name, glob)]
        if not matched:
            raise TrainingError(f"distillation features: {unknown('layer or glob', glob, names)}")
        weights |= dict.fromkeys(matched, weight)
    return {name: weight for name, weight in weights.items() if weight > 0}


class FeatureMatch(Hook):
    """Adds the distance of the chosen maps to the loss of every step; `features`: glob of a module's name -> weight."""

    def __init__(self, features: Mapping[str, float]) -> None:
        self.features = dict(features)

    def begin(self, scene: Scene) -> None:
        student, teacher = unwrapped(scene.model), scene.teacher
        if teacher is None:
            raise TrainingError("distillation features need a teacher.")
        self._weights = chosen_layers(student, self.features)
        self._own: dict[str, Tensor] = {}
        self._taught: dict[str, Tensor] = {}
        theirs = dict(teacher.named_modules())
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        for name in self._weights:
            if name not in theirs:
                raise TrainingError(f"distillation features: the teacher has no layer '{name}'.")
            self._handles.append(student.get_submodule(name).register_forward_hook(_kept_in(self._own, name)))
            self._handles.append(theirs[name].register_forward_hook(_kept_in(self._taught, name, any_mode=True)))

    def extra_loss(self, model: nn.Module, step: int) -> Tensor | None:
        terms = [weight * _distance(name, self._own, self._taught) for name, weight in self._weights.items()]
        self._own.clear()
        self._taught.clear()
        return torch.stack(terms).sum() if terms else None

    def close(self) -> None:
        for handle in getattr(self, "_handles", ()):
            handle.remove()

    def description(self) -> dict[str, Any]:
        return {"features": self.features}


def _kept_in(maps: dict[str, Tensor], name: str, any_mode: bool = False) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled() or any_mode:
            # A copy: an activation that works in place would change the map behind our back.
            maps[name] = output.clone() if isinstance(output, Tensor) else output

    return keep


def _distance(name: str, own: Mapping[str, Any], taught: Mapping[str, Any]) -> Tensor:
    pair = own.get(name), taught.get(name)
    shapes = [tuple(value.shape) if isinstance(value, Tensor) else None for value in pair]
    if shapes[0] is None or shapes[0] != shapes[1]:
        raise TrainingError(
            f"distillation features: layer '{name}' gives {shapes[0]} in the student and {shapes[1]} in the teacher; "
            f"both must be one map of the same shape."
        )
    return F.mse_loss(pair[0].float(), pair[1].detach().float())  # type: ignore[union-attr]
