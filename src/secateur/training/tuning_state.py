"""Where a tuning stands: what of its budget is spent, and what its checkpoint remembers beside model and optimiser."""

import time
from collections.abc import Mapping
from dataclasses import astuple

import torch
from torch import Tensor, nn

from secateur.training.hooks import Hook
from secateur.training.tuning import SLOWER, TuneRow


class Budget:
    """What may be spent: steps, seconds, or both, whichever ends first.

    reserve    seconds that are kept for the last look at the held-out images
    before     seconds that earlier starts of the run have used
    """

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        self.steps, self.seconds = steps, seconds
        self.reserve, self.before, self._started = 0.0, 0.0, time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds, all starts of the run together."""
        return self.before + time.monotonic() - self._started

    def share(self, step: int) -> float:
        """Of the budget, between 0 and 1; 1 when it is spent."""
        by_steps = by_time = 0.0
        if self.steps is not None:
            by_steps = step / self.steps if self.steps else 1.0
        if self.seconds is not None:
            room = self.seconds - self.reserve
            by_time = self.spent / room if room > 0 else 1.0
        # As long as the time is not short, numbers must not depend on it: within one step it is not.
        if self.steps and by_time <= (step + 1) / self.steps:
            return min(1.0, by_steps)
        return min(1.0, max(by_steps, by_time))


class TuneMemory(Hook):
    """Steps, sums since the last look, all looks, the best network so far, and what is left of the rate.

    since    share of the budget at which the best network was taken back last
    """

    def __init__(self) -> None:
        self.step, self.spent, self.selections, self.rate = 0, 0.0, 0, 1.0
        self.since = 0.0
        self.loss_sum, self.loss_steps = 0.0, 0
        self.rows: list[TuneRow] = []
        self.best: dict[str, Tensor] = {}
        self.best_row = -1

    def add(self, row: TuneRow, model: nn.Module) -> None:
        """Remember a look, and the network if it counts and is nearer to the teacher than any before."""
        self.rows.append(row)
        self.loss_sum, self.loss_steps = 0.0, 0
        nearer = self.best_row < 0 or row.held_out < self.rows[self.best_row].held_out
        # A distance that is no number is not nearer than anything.
        if row.counts and nearer and row.held_out == row.held_out:
            self.best_row = len(self.rows) - 1
            self.best = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def back_(self, model: nn.Module, optimizer: torch.optim.Optimizer, share: float) -> None:
        """The best network again, a lower rate from `share` on, and an optimiser that knows of no step before."""
        model.load_state_dict(self.best)
        for state in optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        self.rate *= SLOWER
        self.since = share

    def state(self) -> dict[str, Tensor]:
        numbers = [
            self.step,
            self.spent,
            self.selections,
            self.loss_sum,
            self.loss_steps,
            self.best_row,
            self.rate,
            self.since,
        ]
        rows = torch.tensor([astuple(row) for row in self.rows], dtype=torch.float64)
        named = {f"best.{name}": value for name, value in self.best.items()}
        return {"numbers": torch.tensor(numbers, dtype=torch.float64), "rows": rows} | named

    def restore(self, state: Mapping[str, Tensor]) -> None:
        numbers = state["numbers"].tolist()
        step, self.spent, selections, self.loss_sum, loss_steps, best_row, self.rate, self.since = numbers
        self.step, self.selections, self.loss_steps, self.best_row = map(int, (step, selections, loss_steps, best_row))
        self.rows = [
            TuneRow(int(step), share, loss, held_out, agreement, bool(counts), seconds)
            for step, share, loss, held_out, agreement, counts, seconds in state["rows"].tolist()
        ]
        self.best = {name.removeprefix("best."): value for name, value in state.items() if name.startswith("best.")}
