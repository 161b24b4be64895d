"""Which epoch is the result of a training.

    best_top1    the largest (top1, top5, epoch) of the epochs that end at the final sparsity
    best_top5    the largest (top5, top1, epoch) of them
    sparsest     the largest (sparsity, top1, top5, epoch) of all epochs

The last epoch counts as one at the final sparsity, whatever its masks are: it is what the training ends with.

Source: Distiller (fewest nonzeros, then top-1, top-5, epoch); 1xN (top-5).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from secateur.progress import say
from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene

Keep = Literal["best_top1", "best_top5", "sparsest"]


def rank(row: Row, keep: Keep) -> tuple[float, ...]:
    """What an evaluated epoch is compared by: the largest is the best."""
    top1, top5 = row.top1 or 0.0, row.top5 or 0.0
    order = {
        "best_top1": (top1, top5),
        "best_top5": (top5, top1),
        "sparsest": (row.sparsity, top1, top5),
    }
    return (*order[keep], float(row.epoch))


class KeepBest(Hook):
    """Remembers the model of the best epoch so far, and leaves it as the result."""

    def __init__(self, keep: Keep, others: Sequence[Hook] = ()) -> None:
        """others: the hooks that know whether an epoch ends at the final sparsity."""
        self.keep: Keep = keep
        self.others = tuple(others)
        self._rank: tuple[float, ...] = ()
        self._best: dict[str, Tensor] = {}

    def begin(self, scene: Scene) -> None:
        self._scene = scene

    def after_epoch(self, row: Row) -> None:
        last = row.epoch + 1 == self._scene.config.epochs
        counts = last or self.keep == "sparsest" or all(hook.settled(row) for hook in self.others)
        if counts and rank(row, self.keep) >= self._rank:
            self._rank = rank(row, self.keep)
            self._best = {name: value.clone() for name, value in self._scene.model.state_dict().items()}
        if last:
            self._scene.model.load_state_dict(self._best)
            if int(self._rank[-1]) != row.epoch:
                say(f"the result is epoch {int(self._rank[-1]) + 1} of {row.epoch + 1} ({self.keep})")
            self._best = {}

    def state(self) -> dict[str, Tensor]:
        return {"rank": torch.tensor(self._rank, dtype=torch.float64)} | {
            f"best.{name}": value for name, value in self._best.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._rank = tuple(float(value) for value in state["rank"])
        self._best = {
            name.removeprefix("best."): value.to(self._scene.model.state_dict()[name.removeprefix("best.")].device)
            for name, value in state.items()
            if name.startswith("best.")
        }
